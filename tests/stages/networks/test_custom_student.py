"""How a student of your own sizes is typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.networks.custom_student import CustomSizes, custom_text, is_custom, read_custom

sizes = st.builds(
    CustomSizes, st.integers(1, 9999), st.integers(1, 99), st.integers(1, 99), st.none() | st.integers(1, 999)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("custom", CustomSizes(64, 3, 2, None)),
        ("custom:96x4x3", CustomSizes(96, 4, 3, None)),
        ("custom:96x4x3/8", CustomSizes(96, 4, 3, 8)),
        ("custom/8", CustomSizes(64, 3, 2, 8)),
    ],
)
def test_sizes_are_width_depth_heads_and_patch(text: str, expected: CustomSizes) -> None:
    assert is_custom(text)
    assert read_custom(text) == expected
    assert custom_text(expected) == text


def test_what_is_not_said_is_as_the_run_that_it_starts_from() -> None:
    old = CustomSizes(96, 4, 3, 8)
    assert read_custom("custom", old) == old
    assert read_custom("custom/4", old) == CustomSizes(96, 4, 3, 4)
    assert read_custom("custom:64x3x2", old) == CustomSizes(64, 3, 2, 8)


@given(sizes)
def test_the_name_of_sizes_reads_back_as_them(given_sizes: CustomSizes) -> None:
    assert read_custom(custom_text(given_sizes)) == given_sizes


@pytest.mark.parametrize("text", ["custom:64", "custom:64x3", "custom:0x3x2", "custom:64x3x2/", "custom:64x3x2x1"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    assert is_custom(text)
    with pytest.raises(UsageProblem, match="custom:64x3x2/8"):
        read_custom(text)


def test_timms_names_are_not_custom() -> None:
    assert not is_custom("customnet_10")
    assert not is_custom("deit_tiny_distilled_patch16_224")
