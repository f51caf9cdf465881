import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_fakes import Reader

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.target_file import check_target
from deit_pipe.stages.pages.charts import (
    Chart,
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
from deit_pipe.stages.pages.parts import (
    CaptionLine,
    Card,
    Column,
    Figure,
    Fold,
    Matrix,
    MatrixCell,
    Table,
    Tile,
    percent,
)
from deit_pipe.stages.pages.writing import POLICY, TEMPLATES, render, templates


def part(name: str, value: object) -> str:
    """One macro of parts.html."""
    return str(getattr(templates().get_template("parts.html").module, name)(value))


def everywhere(text: str) -> str:
    """A text in every place of every part that data can reach."""
    dots = blocks_chart([Dot(0.5, 0.8, text)], [], [], text, lambda _: text, text)
    caption = [CaptionLine(text, text, "where")]
    return "".join(
        [
            part("tiles", [Tile(text, text, text)]),
            part("card", Card(text, text, dots, legend=[(text, "c1")])),
            part("table", Table([Column(text), Column(text, code=True)], [[text, text]])),
            part("matrix", Matrix([text], [[MatrixCell(text, text, 0.5, own=False)]])),
            part("gallery", [Figure("data:image/png;base64,", True, text, caption)]),
            part("fold", Fold.of(text, {text: text, "list": [text]})),
        ]
    )


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=5))  # a shorter name is not written downwards
def test_no_text_becomes_markup(text: str) -> None:
    plain, hostile = Reader(everywhere("plain")), Reader(everywhere(text))
    assert hostile.open == []
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(a) for _, a in hostile.tags] == [sorted(a) for _, a in plain.tags]


def test_hostile_text_is_shown_as_text() -> None:
    evil = '"><script>alert(1)</script>'
    assert "<script" not in everywhere(evil)
    places = Reader(everywhere("plain")).text.count("plain")
    assert Reader(everywhere(evil)).text.count(evil) == places > 20
    out = part("fold", Fold("<b>", [("a&b", "'x'")]))
    assert "<summary>&lt;b&gt;</summary><dl><dt>a&amp;b</dt><dd>&#39;x&#39;</dd></dl>" in out


def run_page(**values: object) -> str:
    usual = {"heading": "h", "state": "s", "state_words": "w", "about": "a", "sections": [], "difference": None}
    return render("run.html", **{"title": "t", **usual, "learning": [], "running": [], "answers": [], **values})


def test_a_file_name_that_is_no_utf8_can_be_written() -> None:
    name = b"caf\xe9<.png".decode("utf-8", "surrogateescape")
    assert run_page(title=name, heading=name).encode("utf-8").count(b"caf\\udce9&lt;.png") == 2


def test_a_name_that_a_template_does_not_get_is_an_error() -> None:
    from jinja2 import UndefinedError

    assert "<h1>h</h1>" in run_page()
    with pytest.raises(UndefinedError, match="about"):
        render("run.html", title="t", heading="h", state="s", state_words="w", sections=[])


def test_every_page_has_the_policy_and_the_style() -> None:
    page = run_page()
    (policy,) = [a["content"] for _, a in Reader(page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == POLICY
    assert (TEMPLATES / "style.css").read_text(encoding="utf-8").strip() in page


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    check_target(tmp_path / "page.html", "--out")
    for target in (tmp_path, tmp_path / "nowhere" / "page.html"):
        with pytest.raises(UsageProblem, match="cannot be written"):
            check_target(target, "--out")


def test_tables_align_their_columns_and_draw_bars() -> None:
    columns = [Column("name", code=True), Column("share", "bar"), Column("views", "n")]
    out = part("table", Table(columns, [["<a>", 0.25, "1"], ["all", 1.0, "2"]], total=True))
    assert '<th>name</th><th class="bar">share</th><th class="n">views</th>' in out
    assert '<tr><td><code>&lt;a&gt;</code></td><td class="bar">' in out
    assert '<i style="--v:0.2500"></i>' in out
    assert '<td class="n">1</td>' in out
    assert '<tr class="sum"><td>all</td>' in out


def test_long_names_of_a_matrix_are_written_downwards() -> None:
    cell = MatrixCell("5", "words", 0.5, own=True)
    assert 'class="down"' in part("matrix", Matrix(["a name"], [[cell]]))
    short = part("matrix", Matrix(["a"], [[cell]]))
    assert 'class="down"' not in short
    assert '<td title="words" class="own">5</td>' in short
    assert 'style="--v:0.500"' in part("matrix", Matrix(["a"], [[cell._replace(own=False)]]))


def test_percent_is_never_broken_into_two_lines() -> None:
    assert percent(0.1234) == "12.3\u00a0%"
    assert percent(None) == "-"


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


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(part("chart", chart))


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
    for chart in (
        blocks_chart(dots, [(d.x, d.y) for d in dots], [], "y", str, "w"),
        histogram([0] * 4, 0, 1, "x", "y", str, "w"),
        curves([Series("a", "c1", [(1, 1)][:count])], "x", "y", str, "w"),
        bars([(1.0, "a")][:count], "x", "y", "w"),
    ):
        assert "nan" not in part("chart", chart)
        parsed(chart)
