"""The same 500 images in every form: the same samples, views and labels; a cache of one form trains from any other."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file
from split_fakes import write_idx_arrays
from stage_fakes import cache_options, student_options
from view_images import encoded

from deit_pipe.pipeline.cells import render_cells
from deit_pipe.pipeline.data_set import open_data
from deit_pipe.pipeline.plan import Cells, ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.pipeline.sources.image_folder import FolderSamples
from deit_pipe.pipeline.sources.kept import own_folder, row_groups
from deit_pipe.pipeline.sources.open_samples import open_samples
from deit_pipe.pipeline.sources.packed import pack_samples
from deit_pipe.pipeline.sources.parquet import ParquetSamples
from deit_pipe.pipeline.sources.tar_shards import TarSamples
from deit_pipe.stages import cache_teacher, train_student
from deit_pipe.stages.console.errors import Mismatch

COUNT, SIDE, CLASSES = 500, 12, 5
FORMS = ("folder", "one", "many", "config", "tar", "idx", "csv", "table", "packed", "raw")


def write_forms(root: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    files = [encoded(Image.fromarray(image), "PNG") for image in pixels]
    names = [f"{i:04}.png" for i in range(len(files))]
    for name, label, data in zip(names, labels.tolist(), files, strict=True):
        for place in (root / "folder" / str(label), root / "csv", root / "table" / "images"):
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, labels.tolist(), strict=True))
    (root / "csv" / "labels.csv").write_text("file,label\n" + rows)
    parquet.write_table(pa.table({"file_name": names, "label": labels}), root / "table" / "labels.parquet")
    structs = pa.array([{"bytes": data, "path": None} for data in files])
    table = pa.table({"image": structs, "label": labels})
    for form, parts in (("one", 1), ("many", 4), ("config/default", 1)):
        (root / form / "data").mkdir(parents=True)
        for part in range(parts):
            start, stop = part * COUNT // parts, (part + 1) * COUNT // parts
            file = root / form / "data" / f"train-{part:05}-of-{parts:05}.parquet"
            parquet.write_table(table.slice(start, stop - start), file, row_group_size=30)
    (root / "tar").mkdir()
    for part in range(2):
        with tarfile.open(root / "tar" / f"train-{part:06}.tar", "w") as shard:
            for i in range(part * COUNT // 2, (part + 1) * COUNT // 2):
                for name, data in ((names[i], files[i]), (f"{i:04}.cls", str(labels[i]).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    write_idx_arrays(root / "idx", "train", pixels, labels)
    for form, raw in (("packed", False), ("raw", True)):
        (root / form).mkdir()
        pack_samples(open_samples(str(root / "folder")), root / form / "train.arrow", raw=raw)


@pytest.fixture(scope="module", autouse=True)
def at_random() -> Any:
    """So little memory that Parquet is unpacked, and tar indexes are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "KEPT_BYTES", 20_000)
        patch.setattr(own_folder, "SETTLED_NS", -(10**15))
        yield


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("forms")
    random = np.random.default_rng(0)
    labels = np.sort(np.arange(COUNT) % CLASSES)
    pixels = random.integers(0, 160, (COUNT, SIDE, SIDE), dtype=np.uint8)
    pixels[np.arange(COUNT), :, labels * 2] += 90
    write_forms(root, pixels, labels)
    return root


def cells_of(data: Path) -> tuple[Any, ...]:
    found = open_data(str(data))
    assert found.val is not None
    recipe = load_recipe("deit")
    plan = ViewPlan.for_recipe(len(found.train), recipe, 3)
    made = render_cells(found.train, recipe, plan, Cells(0, np.arange(len(found.train))), 24)
    return (
        found.train.digest,
        found.val.digest,
        found.train.class_names,
        made.fingerprints.tolist(),
        made.labels.tolist(),
        made.pixels.tobytes(),
    )


@pytest.fixture(scope="module")
def of_folder(forms: Path) -> tuple[Any, ...]:
    return cells_of(forms / "folder")


@pytest.mark.parametrize("form", FORMS[1:])
def test_every_form_is_the_same_samples_views_and_labels(forms: Path, of_folder: tuple[Any, ...], form: str) -> None:
    assert cells_of(forms / form) == of_folder
    assert len(of_folder[3]) == COUNT * 9 // 10


@pytest.fixture(scope="module")
def made(forms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, NDArray[Any]]]:
    """A cache made of Parquet files, and the weights of a student trained from that."""
    root = tmp_path_factory.mktemp("made")
    options = cache_options(forms / "many", root / "cache", epochs=1, batch_size=30, block=60, recipe="small")
    cache_teacher.run(options)
    return root / "cache", student(root / "cache", forms / "many", root / "run")


def student(cache: Path, data: Path, out: Path) -> dict[str, NDArray[Any]]:
    train_student.run(student_options(cache, out, data=str(data), epochs=1, batch_size=90))
    return load_file(out / "student.safetensors")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "many"])
def test_a_cache_of_one_form_trains_from_any_other(
    forms: Path, made: tuple[Path, dict[str, NDArray[Any]]], tmp_path: Path, form: str
) -> None:
    cache, expected = made
    weights = student(cache, forms / form, tmp_path / "run")
    assert weights.keys() == expected.keys()
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def test_other_images_of_the_same_labels_are_refused(
    forms: Path, made: tuple[Path, dict[str, NDArray[Any]]], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    labels = np.sort(np.arange(COUNT) % CLASSES)
    write_idx_arrays(other, "train", np.full((COUNT, SIDE, SIDE), 7, dtype=np.uint8), labels)
    with pytest.raises(Mismatch, match="replay differs: epoch 0"):
        student(made[0], other, tmp_path / "run")


@pytest.mark.parametrize("form", ["folder", "one", "tar"])
def test_going_on_with_a_cache_measures_nothing(
    forms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    measured: list[str] = []
    for kind in (FolderSamples, ParquetSamples, TarSamples):
        real: Callable[[Any], Any] = kind.measure_bytes

        def counting(table: Any, real: Callable[[Any], Any] = real) -> Any:
            measured.append(type(table).__name__)
            return real(table)

        monkeypatch.setattr(kind, "measure_bytes", counting)
    given: dict[str, Any] = {"batch_size": 30, "block": 60, "recipe": "small", "plan_only": True}
    cache_teacher.run(cache_options(forms / form, tmp_path / "cache", epochs=1, **given))
    assert len(measured) == 1
    cache_teacher.run(cache_options(forms / form, tmp_path / "cache", epochs=2, **given))
    assert len(measured) == 1
