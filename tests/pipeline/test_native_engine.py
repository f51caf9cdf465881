"""Which engine is taken, what it refuses, and that nothing malformed gets past its checks."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native_cases import INSTRUCTIONS, any_view, picture

from deit_pipe.pipeline.errors import EngineError
from deit_pipe.pipeline.native import engine, packed
from deit_pipe.pipeline.native.engine import chosen_engine
from deit_pipe.pipeline.native.packed import pack_view
from deit_pipe.pipeline.provenance import library_versions
from deit_pipe.pipeline.render import render_decoded, render_views
from deit_pipe.pipeline.views import Box, Op, View

ROOT = Path(__file__).parents[2]
built = pytest.mark.skipif(not INSTRUCTIONS, reason="the native engine is not built: pip install -e .")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test chooses anew."""
    engine._choose.cache_clear()
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    yield
    engine._choose.cache_clear()


# -- the choice


def test_the_golden_views_are_those_of_pillow() -> None:
    import zlib

    image = engine.golden_image()
    views = list(engine.golden_views())
    assert [zlib.crc32(render_decoded(image, view).tobytes()) for view in views] == list(engine.GOLDEN)
    assert {op.name for view in views for op in view.ops} == set(packed._OPS)
    assert {view.resample for view in views} == {"bicubic", "bilinear"}


@built
def test_the_quickest_engine_is_taken_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_engine().instructions == INSTRUCTIONS[-1]
    monkeypatch.setenv(engine.VARIABLE, "")
    assert chosen_engine().instructions == INSTRUCTIONS[-1]
    assert library_versions()["engine"] == f"native {INSTRUCTIONS[-1]}"


@built
@pytest.mark.parametrize("choice", INSTRUCTIONS)
def test_an_instruction_set_can_be_forced(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, choice)
    assert chosen_engine().name == f"native {choice}"
    assert str(chosen_engine()) == f"native, {choice.upper()}"


def test_pillow_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "pillow")
    assert chosen_engine() == (None, "DEIT_PIPE_ENGINE says so")
    assert library_versions()["engine"] == "pillow"


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, "avx99")
    with pytest.raises(EngineError, match=r"DEIT_PIPE_ENGINE[^$]*auto, pillow[^$]*avx99") as caught:
        chosen_engine()
    assert caught.value.exit_code == 2


def test_without_the_extension_pillow_renders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "_views", None)
    assert str(chosen_engine()) == "Pillow (the native engine was not built)"
    image, view = picture(3, 1, 30, 20), next(engine.golden_views())._replace(crop=Box(0, 0, 30, 20))
    out = np.zeros((1, view.size, view.size, 3), np.uint8)
    assert render_views(image, [view], [0], out) == 0
    np.testing.assert_array_equal(out[0], render_decoded(image, view))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(engine.VARIABLE, "native")
    with pytest.raises(EngineError, match="was not built"):
        chosen_engine()


@built
def test_an_engine_whose_golden_views_differ_switches_itself_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "GOLDEN", (*engine.GOLDEN[:-1], 1))
    assert chosen_engine().instructions is None
    chosen_engine()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "differs in 1 of 7 golden views, so Pillow renders" in lines[0]
    assert library_versions()["engine"] == "pillow"
    monkeypatch.setenv(engine.VARIABLE, INSTRUCTIONS[0])
    with pytest.raises(EngineError, match="differs in 1 of 7 golden views"):
        chosen_engine()


@built
def test_an_engine_of_another_version_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "LAYOUT", packed.LAYOUT + 1)
    assert chosen_engine().instructions is None
    assert "another version" in capsys.readouterr().err


@built
def test_an_instruction_set_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        SPEC_LAYOUT = packed.LAYOUT
        render_into = staticmethod(engine._views.render_into)

        @staticmethod
        def instruction_sets() -> tuple[str, ...]:
            return ("sse2",)

    monkeypatch.setattr(engine, "_views", Old)
    assert chosen_engine().name == "native sse2"
    monkeypatch.setenv(engine.VARIABLE, "avx2")
    with pytest.raises(EngineError, match="no AVX2"):
        chosen_engine()


# -- what the extension refuses

SIDE = 8
PLAIN = View(SIDE, Box(1, 2, 9, 7), (10, 9), (1, 1), False, (Op("Rotate", (9.0,)),), "bicubic", (1, 2, 3), None, 0)


def call(view: bytes, image: object = None, out: object = None, row: object = 0) -> np.ndarray:
    pixels = picture(0, 1, 12, 11) if image is None else image
    batch = np.full((2, SIDE, SIDE, 3), 9, np.uint8) if out is None else out
    engine._views.render_into(INSTRUCTIONS[-1], pixels, [view], [row], batch)
    return batch


@built
@settings(max_examples=700, deadline=None)
@given(
    place=st.integers(0, 15),
    value=st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 20), st.sampled_from([8192, 65536, 1 << 24])),
    other=st.integers(0, 15),
    other_value=st.integers(-3, 20),
)
def test_any_numbers_in_the_head_are_refused_or_stay_within_bounds(
    place: int, value: int, other: int, other_value: int
) -> None:
    words = np.frombuffer(pack_view(PLAIN), np.int32).copy()
    words[place], words[other] = value, other_value
    numbers = words[:16].tolist()
    layout, size, left, top, width, height, resized_width, resized_height, cut_left, cut_top = numbers[:10]
    good = (
        layout == packed.LAYOUT
        and size == SIDE
        and min(left, top, cut_left, cut_top) >= 0
        and min(width, height, resized_width, resized_height) >= 1
        and left + width <= 12
        and top + height <= 11
        and cut_left + size <= resized_width <= 1 << 24
        and cut_top + size <= resized_height <= 1 << 24
        and all(switch in (0, 1) for switch in numbers[10:12])
        and all(0 <= level <= 255 for level in numbers[12:15])
        and numbers[15] == 1
    )
    out = np.full((2, SIDE, SIDE, 3), 9, np.uint8)
    if good:
        call(words.tobytes(), out=out)
    else:
        with pytest.raises(ValueError, match="view 0: "):
            call(words.tobytes(), out=out)
        assert (out[0] == 9).all()
    assert (out[1] == 9).all()


@built
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="view 0: "):
        call(data)


@built
@settings(max_examples=700, deadline=None)
@given(
    code=st.integers(-2, 15),
    values=st.lists(st.one_of(st.floats(), st.integers(-2, 300).map(float)), min_size=6, max_size=6),
    zeros=st.integers(0, 6),
)
def test_any_op_is_refused_or_harmless(code: int, values: list[float], zeros: int) -> None:
    numbers = [*values[: 6 - zeros], *[0.0] * zeros]
    view = pack_view(PLAIN)[:64] + packed._OP.pack(code, 0, *numbers)
    out = np.full((2, SIDE, SIDE, 3), 9, np.uint8)
    used = 6 if code == 0 else 1 if code in (4, 5, 6, 7, 8, 9, 10, 12) else 0
    hopeless = not 0 <= code <= 12 or any(number != 0 for number in numbers[used:]) or not np.isfinite(numbers).all()
    refused = ""
    try:
        call(view, out=out)
    except ValueError as error:
        refused = str(error)
    assert refused.startswith("view 0: ") or not (refused or hopeless)
    assert not refused or (out[0] == 9).all()
    assert (out[1] == 9).all()


@built
@pytest.mark.parametrize(
    ("code", "second_word", "value", "message"),
    [
        (0, 0, 2e9, "matrix"),
        (0, 0, float("nan"), "matrix"),
        (4, 0, 9, "bits"),
        (4, 0, -1, "bits"),
        (4, 0, 2.5, "bits"),
        (5, 0, 257, "level"),
        (5, 0, -1, "level"),
        (6, 0, 0.5, "level"),
        (6, 0, float("nan"), "level"),
        (7, 0, 2e6, "factor"),
        (8, 0, -2e6, "factor"),
        (9, 0, float("inf"), "factor"),
        (10, 0, float("nan"), "factor"),
        (12, 0, -1, "blur"),
        (12, 0, 1001, "blur"),
        (13, 0, 0, "unknown"),
        (-1, 0, 0, "unknown"),
        (3, 0, 1, "unused"),
        (3, 1, 0, "second word"),
    ],
)
def test_ops_with_impossible_numbers_are_refused(code: int, second_word: int, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"view 0: .*{message}"):
        call(pack_view(PLAIN)[:64] + packed._OP.pack(code, second_word, value, *[0.0] * 5))


@built
@settings(max_examples=100, deadline=None)
@given(any_view(), st.data())
def test_a_view_of_another_image_is_refused_when_it_leaves_it(
    case: tuple[np.ndarray, View], data: st.DataObject
) -> None:
    """The same packed view over an image cut smaller than its crop."""
    image, view = case
    view = view._replace(ops=())
    height = data.draw(st.integers(1, image.shape[0]))
    out = np.zeros((1, view.size, view.size, 3), np.uint8)
    numbers = pack_view(view)
    if view.crop.top + view.crop.height > height:
        with pytest.raises(ValueError, match="crop leaves the image"):
            engine._views.render_into(INSTRUCTIONS[0], image[:height], [numbers], [0], out)
    else:
        engine._views.render_into(INSTRUCTIONS[0], image[:height], [numbers], [0], out)


def locked() -> np.ndarray:
    out = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    out.setflags(write=False)
    return out


@built
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"row": 2}, IndexError),
        ({"row": -1}, IndexError),
        ({"row": 1 << 80}, OverflowError),
        ({"row": 0.0}, TypeError),
        ({"view": "text"}, TypeError),
        ({"view": None}, TypeError),
        ({"image": np.zeros((11, 12, 4), np.uint8)}, ValueError),
        ({"image": np.zeros((11, 12, 3), np.int8)}, ValueError),
        ({"image": np.zeros((11, 12, 3), np.float32)}, ValueError),
        ({"image": np.zeros((11, 12, 3, 1), np.uint8)}, ValueError),
        ({"image": np.zeros((11, 24, 3), np.uint8)[:, ::2]}, ValueError),
        ({"image": np.zeros((11, 12, 3), np.uint8)[:, ::-1]}, ValueError),
        ({"image": np.zeros((11, 12, 3), np.uint8)[..., ::-1]}, ValueError),
        ({"image": np.zeros((0, 12, 3), np.uint8)}, ValueError),
        ({"image": np.zeros(99, np.uint8)}, ValueError),
        ({"image": 3}, TypeError),
        ({"out": locked()}, (BufferError, ValueError)),
        ({"out": np.zeros((2, SIDE, SIDE + 1, 3), np.uint8)}, ValueError),
        ({"out": np.zeros((2, SIDE + 1, SIDE + 1, 3), np.uint8)}, ValueError),
        ({"out": np.zeros((2, 3, SIDE, SIDE), np.uint8).transpose(0, 2, 3, 1)}, ValueError),
        ({"out": np.zeros((SIDE, SIDE, 3), np.uint8)}, ValueError),
        ({"out": np.zeros((0, SIDE, SIDE, 3), np.uint8)}, IndexError),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(**{"view": pack_view(PLAIN), **changes})  # type: ignore[arg-type]


@built
def test_other_misuse_is_refused() -> None:
    out, image, view = np.zeros((4, SIDE, SIDE, 3), np.uint8), picture(0, 1, 12, 11), pack_view(PLAIN)
    with pytest.raises(ValueError, match="no instructions 'mmx'"):
        engine._views.render_into("mmx", image, [view], [0], out)
    with pytest.raises(ValueError, match="one row for each view"):
        engine._views.render_into(INSTRUCTIONS[0], image, [view], [0, 1], out)
    whole = np.zeros((20, 12, 3), np.uint8)
    for shared in (whole, whole[::-1]):
        with pytest.raises(ValueError, match="overlap"):
            engine._views.render_into(
                INSTRUCTIONS[0], shared, [view], [0], whole.reshape(-1)[-192:].reshape(1, SIDE, SIDE, 3)
            )
    engine._views.render_into(INSTRUCTIONS[0], image, [], [], out)
    assert not out.any()


@built
def test_a_batch_that_is_not_contiguous_is_left_to_pillow() -> None:
    image = picture(3, 1, 12, 11)
    out = np.zeros((2, 3, SIDE, SIDE), np.uint8).transpose(0, 2, 3, 1)
    assert render_views(image, [PLAIN], [1], out) == 1
    np.testing.assert_array_equal(out[1], render_decoded(image, PLAIN))


@built
def test_memory_does_not_grow() -> None:
    resource = pytest.importorskip("resource")
    image = picture(0, 1, 900, 700)
    views = [
        PLAIN._replace(size=side, crop=Box(0, 0, 900 - side, 700), resized=(side, side), cut=(0, 0))
        for side in (224, 100, 31)
    ]
    outs = [np.zeros((1, view.size, view.size, 3), np.uint8) for view in views]

    def work(times: int) -> int:
        for i in range(times):
            engine.render_native(INSTRUCTIONS[-1], image, [views[i % 3]], [0], outs[i % 3])
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    before = work(30)
    assert work(600) - before < 4096  # kB; one forgotten row table a call would be 10 MB


# -- the build


def test_every_source_is_declared() -> None:
    """An sdist holds only what is declared."""
    extension = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"][0]
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline/native/src").glob("*.[ch]")}
    assert {*extension["sources"], *extension["depends"]} == found
    assert "-ffp-contract=off" in extension["extra-compile-args"]


@pytest.mark.slow
@pytest.mark.parametrize(("compiler", "tag"), [("cc", "cp311-abi3-"), ("false", "py3-none-any")])
def test_wheels_with_and_without_a_compiler(compiler: str, tag: str, tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if not name.startswith("tests/"):
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ".",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path / "copy",
        env={"CC": compiler, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert tag in wheel.name
    assert any("_views" in name and name.endswith(".so") for name in names) == (compiler == "cc")
    assert "deit_pipe/pipeline/native/engine.py" in names
