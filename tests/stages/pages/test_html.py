import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deit_pipe.stages.pages.charts import (
    Dot,
    Series,
    bars,
    blocks_chart,
    curves,
    histogram,
    nice_ticks,
    padded_range,
    percent_format,
)
from deit_pipe.stages.pages.html import Html, escape, page, table, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>", tag("i", "&"), None, 3, ["x", tag("br")]) == "<p>&lt;b&gt;<i>&amp;</i>3x<br></p>"
    assert tag("a", class_="x", aria_label='"><script>', hidden=True, style=None) == (
        '<a class="x" aria-label="&quot;&gt;&lt;script&gt;" hidden></a>'
    )
    assert isinstance(tag("p"), Html)


def test_a_file_name_that_is_no_utf8_can_be_written() -> None:
    name = b"caf\xe9<.png".decode("utf-8", "surrogateescape")
    assert page(name, "", [tag("p", name)]).encode("utf-8").count(b"&lt;.png") == 2
    assert escape("\ud800") == "\\ud800"


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text())
def test_no_text_becomes_markup(text: str, value: str) -> None:
    out = tag("p", text, title=value)
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', out, re.DOTALL)


def test_tables_align_their_columns() -> None:
    out = table([("name", None), ("views", "n")], [["<a>", "1"], ["all", "2"]], total=True)
    assert out.count("<th") == 3  # thead too
    assert '<td class="n">1</td>' in out
    assert '<tr class="sum"><td>all</td>' in out
    assert "&lt;a&gt;" in out


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_cover_the_range(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-6 * span + 1e-9
    assert ticks[-1] >= low + span - 1e-6 * span - 1e-9
    whole = nice_ticks(0, span, whole=True)
    assert all(tick == int(tick) and 0 <= tick <= span for tick in whole)


def test_a_range_has_room_but_never_leaves_its_bounds() -> None:
    assert padded_range([0.9, 1.0], (0, 1)) == pytest.approx((0.894, 1.0))
    low, high = padded_range([0.5, 0.5])
    assert low < 0.5 < high
    assert percent_format([0.98, 1.0])(0.995) == "99.5 %"
    assert percent_format([0.0, 1.0])(0.5) == "50 %"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_histogram_draws_bars_as_high_as_their_share() -> None:
    root = parsed(histogram([10, 0, 30, 60], 0, 1, "p", "share", str, "words"))
    bars_drawn = root.findall("rect")
    heights = [float(bar.get("height", "nan")) for bar in bars_drawn]
    assert [bar.findtext("title") for bar in bars_drawn][3] == "0.75 to 1.0: 60 (60.0%)"
    assert heights[0] / heights[3] == pytest.approx(1 / 6, rel=0.02)
    assert heights[1] == 0
    assert root.get("aria-label") == "words"


def test_odd_blocks_are_marked_and_every_dot_is_where_its_value_is() -> None:
    dots = [Dot(0.5, 0.8, "a"), Dot(1.5, 0.9, "b")]
    root = parsed(blocks_chart(dots, [(0.5, 0.8), (1.5, 0.9)], [Dot(1.8, 0.1, "odd")], "y", str, "w", (0, 1)))
    circles = root.findall("circle")
    assert [circle.findtext("title") for circle in circles] == ["a", "b", "odd"]
    assert circles[2].get("class") == "dot bad"
    heights = [float(circle.get("cy", "nan")) for circle in circles]
    assert heights[2] > heights[0] > heights[1]  # y grows downwards
    assert (heights[2] - heights[1]) / (heights[0] - heights[1]) == pytest.approx(8, rel=0.02)
    assert len(root.findall("polyline")) == 1


def test_curves_leave_a_gap_where_there_is_no_number() -> None:
    root = parsed(curves([Series("a", "c1", [(0, 1), (1, 2), (2, math.nan), (3, 4), (4, 5)])], "x", "y", str, "w"))
    assert len(root.findall("polyline")) == 2


def test_an_epoch_that_is_not_whole_has_another_colour() -> None:
    root = parsed(bars([(1.0, "whole"), (0.4, "part"), (0.0, "none")], "epoch", "share", "w"))
    assert [bar.get("class") for bar in root.findall("rect")] == ["area c1", "area part", "area part"]


@pytest.mark.parametrize("count", [0, 1])
def test_charts_of_nothing_and_of_one_value_are_drawn(count: int) -> None:
    dots = [Dot(0.5, 0.5, "a")][:count]
    for svg in (
        blocks_chart(dots, [(d.x, d.y) for d in dots], [], "y", str, "w"),
        histogram([0] * 4, 0, 1, "x", "y", str, "w"),
        curves([Series("a", "c1", [(1, 1)][:count])], "x", "y", str, "w"),
        bars([(1.0, "a")][:count], "x", "y", "w"),
    ):
        assert "nan" not in svg
        parsed(svg)
