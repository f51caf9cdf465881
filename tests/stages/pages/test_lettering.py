"""No letter is drawn as the box that a font has for what it lacks."""

import pytest

from deit_pipe.stages.pages import lettering
from deit_pipe.stages.pages.lettering import has_letter, lettered


def test_latin_text_is_drawn_with_pillows_own_font() -> None:
    own = lettering.fonts(13)[0]
    assert lettered("student 7, 97 %", 13) == ("student 7, 97 %", own)


@pytest.mark.parametrize("text", ["猫", "кот", "قط", "dög", "a\u0e41b"])
def test_other_letters_are_drawn_or_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, font = lettered(text, 13)
    assert all(has_letter(font, letter) for letter in shown)
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    lettering.fonts.cache_clear()
    try:
        alone, own = lettered(text, 13)
        assert all(has_letter(own, letter) for letter in alone)
        for letter in text:
            assert letter in alone or f"U+{ord(letter):04X}" in alone
    finally:
        lettering.fonts.cache_clear()


def test_a_font_without_a_letter_is_told_from_one_with_it() -> None:
    own = lettering.fonts(13)[0]
    assert has_letter(own, "a")
    assert not has_letter(own, "猫")
