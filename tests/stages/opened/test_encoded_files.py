"""A fingerprint that differs names the cause that can be proven: size, bytes, libraries; notes survive any writer."""

import re
import shutil
import struct
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_fakes import write_images
from PIL import Image
from stage_fakes import cache_options as any_cache_options
from stage_fakes import student_options

from deit_pipe.pipeline.proof import encoded as noting_reads
from deit_pipe.pipeline.proof.encoded import NotedSamples, encoded_crc
from deit_pipe.pipeline.samples import ArraySamples, SampleTable
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.stages import cache_teacher, inspect_cache, train_student
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.opened import encoded_files, replay
from deit_pipe.stages.opened.encoded_files import noting
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
from deit_pipe.store.proof import encoded as kept
from deit_pipe.store.proof.encoded import KNOWN, encoded_key, read_encoded, write_encoded

COUNT = 24


def cache_options(data: Path, place: Path, **changed: Any) -> Any:
    """All images are trained on, in blocks of 8."""
    settings = {"recipe": "basic", "epochs": 1, "batch_size": 8, "block": 8, "val_fraction": 0.0, "val_split": None}
    return any_cache_options(data, place, **(settings | changed))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), COUNT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A cache of these images, all of them read."""
    place = tmp_path_factory.mktemp("cache") / "cache"
    cache_teacher.run(cache_options(images, place, epochs=2))
    return place


def failing_run(cache: Path, data: Path, out: Path) -> str:
    with pytest.raises(Mismatch) as caught:
        train_student.run(student_options(cache, out, data=str(data), batch_size=8, epochs=2))
    assert caught.value.exit_code == 4
    return str(caught.value)


def invert(file: Path) -> None:
    """A PNG without compression has the same size whatever its pixels."""
    pixels = np.asarray(Image.open(file))
    Image.fromarray(255 - pixels).save(file, compress_level=0)


@pytest.mark.parametrize(
    ("compressed", "said"), [(True, r"it had [\d,]+ bytes, it has"), (False, "its CRC-32 was [0-9a-f]{8}")]
)
def test_a_changed_image_is_named_and_how_it_is_known(
    compressed: bool, said: str, images: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(images, tmp_path / "images")
    for file in data.rglob("*.png"):
        if not compressed:
            Image.open(file).save(file, compress_level=0)
    place = tmp_path / "cache"
    cache_teacher.run(cache_options(data, place))
    for file in data.rglob("*.png"):
        invert(file)
        if compressed:
            file.write_bytes(file.read_bytes() + bytes(7))
    message = failing_run(place, data, tmp_path / "run")
    assert re.search(f"an image file was changed: {said}", message)
    assert "restore it, or make a new cache" in message
    found = inspect_cache.run(InspectCacheOptions(cache=str(place), replay="all", data=str(data)))
    assert found.exit_code == 4
    assert {one["file"]["kind"] for one in found.data["replay"]["examples"]} == {"changed"}
    assert "an image file was changed: " in found.text.plain


def changed_engine(patch: pytest.MonkeyPatch) -> None:
    """Another program: every fingerprint differs, no file does."""
    from deit_pipe.pipeline import cells

    kept_render = cells.render_views

    def brighter(image: Any, drawn: Any, positions: list[int], pixels: np.ndarray) -> int:
        left = kept_render(image, drawn, positions, pixels)
        pixels[positions] ^= 1
        return left

    patch.setattr(cells, "render_views", brighter)


def test_unchanged_files_and_other_libraries_blame_the_libraries(
    made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_engine(monkeypatch)
    now = replay.library_versions()
    monkeypatch.setattr(replay, "library_versions", lambda: {**now, "pillow": "99.1"})
    message = failing_run(made, images, tmp_path / "run")
    assert "the image file has the bytes it had (CRC-32 " in message
    assert f"libraries that differ from the cache's: pillow {now['pillow']} -> 99.1" in message
    assert "was changed" not in message


def test_unchanged_files_and_libraries_blame_the_program(
    made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_engine(monkeypatch)
    message = failing_run(made, images, tmp_path / "run")
    assert "has the bytes it had" in message
    assert "so this program is another one, or the memory is faulty" in message


def test_without_notes_nothing_is_claimed_of_the_bytes(
    made: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(made, tmp_path / "cache")
    shutil.rmtree(place / "encoded")
    changed_engine(monkeypatch)
    message = failing_run(place, images, tmp_path / "run")
    assert "its CRC-32 was not noted" in message
    assert "so an image file was changed, or a library's code" in message


def test_an_image_that_is_gone_is_said_to_be_unproven(made: Path, images: Path) -> None:
    from deit_pipe.stages.opened.encoded_files import EncodedFiles
    from deit_pipe.store.stored_cache import StoredCache

    class Gone(ArraySamples):
        def read(self, sample: int) -> Any:
            raise OSError("no such file")

    table = Gone("gone", np.zeros((COUNT, 2, 2), np.uint8), np.zeros(COUNT, np.int64), "a")
    verdict = EncodedFiles(StoredCache(made), table).verdict(0)
    assert verdict.kind == "unknown"
    assert verdict.text == "nothing is proven of the image file: no such file"


def test_stage_one_notes_every_image_once_and_truly(made: Path, images: Path) -> None:
    notes, table = read_encoded(made, COUNT), open_samples(str(images))
    assert (notes >= KNOWN).all()
    assert [int(note - KNOWN) for note in notes] == [encoded_crc(table.read(i)) for i in range(COUNT)]


@pytest.mark.parametrize("workers", [0, 2])
def test_notes_come_from_every_process(workers: int, images: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    cache_teacher.run(
        cache_options(
            images,
            place,
            recipe="basic",
            epochs=1,
            batch_size=8,
            block=8,
            workers=workers,
            val_fraction=0.0,
            val_split=None,
        )
    )
    assert (read_encoded(place, COUNT) >= KNOWN).all()


def read_some(job: tuple[SampleTable, range]) -> None:
    for sample in job[1]:
        job[0].read(sample)


def small_table(reads: list[int] | None = None) -> ArraySamples:
    pixels = np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2)

    class Counting(ArraySamples):
        def read(self, sample: int) -> Any:
            if reads is not None:
                reads.append(sample)
            return super().read(sample)

    return (ArraySamples if reads is None else Counting)("t", pixels, np.zeros(10, np.int64), "a")


def test_processes_share_one_file_of_notes(tmp_path: Path) -> None:
    import multiprocessing

    file = tmp_path / "notes"
    file.write_bytes(bytes(80))
    noted = NotedSamples(small_table(), file)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(read_some, [(noted, range(4)), (noted, range(3, 9))]))
    assert np.flatnonzero(noted.notes).tolist() == list(range(9))
    assert noted.read(9).tolist() == [[36, 37], [38, 39]]
    assert int(noted.notes[9] - KNOWN) == encoded_crc(small_table().read(9))


def test_a_resumed_run_keeps_notes_and_adds_to_them(tmp_path: Path) -> None:
    place = str(tmp_path)
    with noting(place, "a", 0, small_table()) as (table, _):
        read_some((table, range(4)))
    with noting(place, "a", 1, small_table()) as (table, _):  # another process of the next run
        read_some((table, range(2, 6)))
    with noting(place, "a", 0, small_table()) as (table, notes):
        read_some((table, range(5, 10)))
        assert notes is not None
        assert np.flatnonzero(read_encoded(place, 10)).tolist() == list(range(6))
        notes.save_if_due()
        assert np.flatnonzero(read_encoded(place, 10)).tolist() == list(range(6))
        notes._saved -= encoded_files.SAVE_SECONDS + 1
        notes.save_if_due()
        assert read_encoded(place, 10).all()
    assert np.flatnonzero(read_encoded(place, 10, encoded_key("a", 0))).tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert np.flatnonzero(read_encoded(place, 10, encoded_key("a", 1))).tolist() == [4, 5]
    same = small_table()
    with noting(place, "b", 0, same) as (table, notes):
        assert table is same  # all is known: nothing stands between
        assert notes is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
        lambda data: data[:8] + struct.pack("<Q", 11) + data[16:],
    ],
)
def test_damaged_notes_are_left_out(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    notes = np.where(np.arange(10) % 3 == 0, 0, KNOWN + np.arange(10, dtype=np.uint64))
    write_encoded(tmp_path, "a", 0, notes)
    write_encoded(tmp_path, "b", 0, np.where(np.arange(10) == 0, KNOWN + np.uint64(77), 0).astype(np.uint64))
    assert int(read_encoded(tmp_path, 10)[0] - KNOWN) == 77
    np.testing.assert_array_equal(read_encoded(tmp_path, 10)[1:], notes[1:])
    path = tmp_path / encoded_key("a", 0)
    path.write_bytes(spoil(path.read_bytes()))
    assert np.flatnonzero(read_encoded(tmp_path, 10)).tolist() == [0]


def test_pipeline_and_store_mean_the_same_by_a_note() -> None:
    assert kept.KNOWN == noting_reads.KNOWN


def test_five_bytes_a_sample_at_most(tmp_path: Path) -> None:
    write_encoded(tmp_path, "a", 0, KNOWN + np.arange(1000, dtype=np.uint64))
    assert (tmp_path / encoded_key("a", 0)).stat().st_size < 1000 * 4.125 + 32
