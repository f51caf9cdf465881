"""No letter is drawn as the box that a font has for what it lacks."""

from collections.abc import Iterator

import pytest

from deit_pipe.stages.pages import lettering
from deit_pipe.stages.pages.lettering import has_letter, lettered


def test_latin_text_is_drawn_with_pillows_own_font() -> None:
    own = lettering.fonts(13)[0]
    assert lettered("student 7, 97 %", 13) == ("student 7, 97 %", own)


@pytest.fixture
def bare_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has no fonts."""
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ())
    lettering.fonts.cache_clear()
    yield
    lettering.fonts.cache_clear()


@pytest.mark.usefixtures("bare_system")
@pytest.mark.parametrize(
    "text", ["Gänsefüßchen ÄÖÜ", "Ελληνικά", "кот Ёж Љубав", "Łódź čeština ğüş", "Ωμέγα и кот", "≤ 5 µm → ½"]
)
def test_scripts_of_europe_are_drawn_as_letters_on_any_machine(text: str) -> None:
    """None of them looks like what the font draws for a letter that it lacks."""
    shown, font = lettered(text, 13)
    assert shown == text
    box = font.getmask(lettering.NO_LETTER)
    for letter in set(text) - {" "}:
        drawn = font.getmask(letter)
        assert (drawn.size, bytes(drawn)) != (box.size, bytes(box)), letter


@pytest.mark.usefixtures("bare_system")
@pytest.mark.parametrize(("text", "shown"), [("猫", "U+732B"), ("猫 кот", "U+732B кот"), ("a猫b", "aU+732Bb")])
def test_what_no_font_has_is_named(text: str, shown: str) -> None:
    assert lettered(text, 13)[0] == shown


@pytest.mark.parametrize("text", ["猫", "кот", "قط", "dög", "a\u0e41b"])
def test_other_letters_are_drawn_or_named(text: str) -> None:
    shown, font = lettered(text, 13)
    assert all(has_letter(font, letter) for letter in shown)
    for letter in text:
        assert letter in shown or f"U+{ord(letter):04X}" in shown


def test_the_bundled_font_has_its_licence_beside_it() -> None:
    assert lettering.BUNDLED.stat().st_size < 1_000_000
    licence = lettering.BUNDLED.with_name("LICENSE.DejaVu").read_text(encoding="utf-8")
    assert "Bitstream Vera Fonts Copyright" in licence
    assert "Arev Fonts Copyright" in licence


def test_a_font_without_a_letter_is_told_from_one_with_it() -> None:
    own = lettering.fonts(13)[0]
    assert has_letter(own, "a")
    assert not has_letter(own, "猫")
