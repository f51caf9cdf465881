import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from store_fakes import create, fill, make_manifest, make_samples, make_teacher, write_blocks

from deit_pipe.store.errors import CacheCorrupt, CacheMismatch, CacheMissing, FormatInvalid, TeacherRemoved
from deit_pipe.store.manifest import (
    create_cache,
    list_teachers,
    read_manifest,
    read_provenance,
    read_samples,
    read_teacher,
)
from deit_pipe.store.reader import TargetReader
from deit_pipe.store.removal import remove_teacher
from deit_pipe.store.runs import read_runs
from deit_pipe.store.verify import verify
from deit_pipe.store.writer import TargetWriter


def test_creating_twice_is_a_no_op(tmp_path):
    manifest = create(tmp_path / "c")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*") if p.is_file()}
    create(tmp_path / "c")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "c").rglob("*") if p.is_file()}
    assert read_manifest(tmp_path / "c") == manifest
    assert read_manifest(tmp_path / "c").digest == manifest.digest
    assert set(read_provenance(tmp_path / "c")) == {"numpy"}


def test_other_views_are_refused_field_by_field(tmp_path):
    create(tmp_path / "c")
    other = make_manifest(seed=4, recipe={"name": "small", "mix_prob": 0.25, "mix": {"alpha": 1.0}, "new": 1})
    with pytest.raises(CacheMismatch) as caught:
        create_cache(tmp_path / "c", other, make_samples(), {})
    assert caught.value.exit_code == 4
    assert {f.field: (f.cached, f.given) for f in caught.value.fields} == {
        "recipe.mix_prob": (0.5, 0.25),
        "recipe.mix.alpha": (0.8, 1.0),
        "recipe.new": ("absent", 1),
        "seed": (3, 4),
    }
    assert "  seed              cached 3   given 4" in str(caught.value)


def test_samples_come_back_also_from_their_copy_and_damage_of_both_is_refused(tmp_path):
    create(tmp_path / "c")
    samples = read_samples(tmp_path / "c")
    assert samples.keys[3] == "image-3.png"
    assert samples.class_names == make_samples().class_names
    assert samples.labels.tolist() == make_samples().labels.tolist()
    flip(tmp_path / "c" / "samples.parquet")
    assert read_samples(tmp_path / "c").keys == samples.keys
    flip(tmp_path / "c" / "copies" / "samples.parquet")
    with pytest.raises(CacheCorrupt, match=r"samples\.parquet"):
        read_samples(tmp_path / "c")


def flip(path, position=40):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_what_cannot_be_made_again_is_there_twice_and_the_next_writer_makes_both_whole(tmp_path, damage):
    manifest = create(tmp_path)
    fill(tmp_path, make_teacher("none"), 1)
    keys = ("MANIFEST.json", "samples.parquet", "teachers/none.json")
    good = {key: (tmp_path / key).read_bytes() for key in keys}
    for folder, key in itertools.product(("", "copies"), keys):
        damage(tmp_path / folder / key)
        assert read_manifest(tmp_path) == manifest
        assert read_teacher(tmp_path, "none") == make_teacher("none")
        assert len(read_samples(tmp_path).keys) == 100
        assert [finding.key for finding in verify(tmp_path, "hash")] == [str(Path(folder) / key)]
        fill(tmp_path, make_teacher("none"), 1)
        assert (tmp_path / folder / key).read_bytes() == good[key]
        assert verify(tmp_path, "hash").ok


def test_exchanged_copies_of_two_teachers_are_named(tmp_path):
    create(tmp_path)
    for name in ("a", "b"):
        fill(tmp_path, make_teacher("none", name=name), 1)
    a, b = (tmp_path / "copies" / "teachers" / f"{name}.json" for name in ("a", "b"))
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)
    assert [finding.key for finding in verify(tmp_path, "hash")] == ["copies/teachers/a.json", "copies/teachers/b.json"]
    read_teacher(tmp_path, "a")


def test_every_flipped_bit_of_the_manifest_is_refused(tmp_path):
    create(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "copies")
    path = tmp_path / "c" / "MANIFEST.json"
    data = path.read_bytes()
    compact = json.loads(data)
    for position in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[position] ^= 4
        path.write_bytes(flipped)
        try:
            same = json.loads(flipped) == compact  # a flipped blank says the same
        except ValueError:
            same = False
        if not same:
            with pytest.raises((CacheCorrupt, CacheMismatch)):
                read_manifest(tmp_path / "c")


def test_no_cache_and_no_teacher_name_the_cure(tmp_path):
    with pytest.raises(CacheMissing, match="deit-pipe cache-teacher --cache"):
        read_manifest(tmp_path)
    create(tmp_path / "c")
    fill(tmp_path / "c", make_teacher("none"), 1)
    with pytest.raises(CacheMissing, match="teachers here: none"):
        read_teacher(tmp_path / "c", "other")
    assert CacheMissing.exit_code == 3


def test_a_folder_of_other_things_is_not_taken(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FormatInvalid, match=r"thesis\.tex"):
        create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_creation_is_completed(tmp_path):
    create(tmp_path / "c")
    (tmp_path / "c" / "MANIFEST.json").unlink()
    shutil.rmtree(tmp_path / "c" / "copies")
    (tmp_path / "c" / "samples.parquet").write_bytes(b"torn")
    create(tmp_path / "c")
    assert len(read_samples(tmp_path / "c").keys) == 100


def test_a_newer_format_is_refused(tmp_path):
    create(tmp_path / "c")
    path = tmp_path / "c" / "MANIFEST.json"
    path.write_text(path.read_text().replace('"deit_pipe": 3', '"deit_pipe": 4'))
    with pytest.raises(CacheMismatch, match="cache format 4"):
        read_manifest(tmp_path / "c")


@pytest.mark.parametrize("name", ["", "UPPER", "../up", "a/b", ".hidden", "a b", "x" * 101])
def test_a_teacher_name_is_a_plain_file_name(name):
    with pytest.raises(FormatInvalid, match="--name"):
        make_teacher(name=name)


def test_teacher_identity_survives_json_and_lists_and_tuples_are_the_same():
    teacher = make_teacher(mean=[0.5, 0.5, 0.5])
    again = type(teacher).from_json(json.loads(json.dumps(teacher.to_json())))
    assert again == teacher
    assert again.digest == make_teacher().digest
    assert teacher.format.text == "dense"


def test_removing_one_teacher_leaves_the_other(tmp_path):
    create(tmp_path / "c")
    for text in ("dense", "none"):
        fill(tmp_path / "c", make_teacher(text), 1, provenance={"torch": text})
    size = sum(p.stat().st_size for p in (tmp_path / "c").rglob("*") if p.is_file())
    freed = remove_teacher(tmp_path / "c", "dense")
    left = sum(p.stat().st_size for p in (tmp_path / "c").rglob("*") if p.is_file())
    assert list_teachers(tmp_path / "c") == ["none"]
    mark = tmp_path / "c" / "teachers" / "dense.removed"
    assert freed == size - left + mark.stat().st_size
    assert not list((tmp_path / "c").rglob("*/dense/*"))
    assert [run["provenance"] for run in read_runs(tmp_path / "c", "none")] == [{"torch": "none"}]
    with pytest.raises(CacheMissing):
        remove_teacher(tmp_path / "c", "dense")
    with pytest.raises(TeacherRemoved, match="its name is not used again"):
        fill(tmp_path / "c", make_teacher("dense", weights_sha256="other"), 1)
    fill(tmp_path / "c", make_teacher("dense", name="dense-2"), 1)
    assert list_teachers(tmp_path / "c") == ["dense-2", "none"]


def test_a_job_that_writes_a_teacher_while_it_is_removed_stops_and_leaves_nothing_that_is_read(tmp_path):
    create(tmp_path)
    teacher = make_teacher()
    writer = TargetWriter.open(tmp_path, teacher, epochs=1)
    blocks = iter(writer.claims())
    write_blocks(writer, [next(blocks)])
    late = next(blocks)
    remove_teacher(tmp_path, teacher.name)
    write_blocks(writer, [late])  # it was under way
    with pytest.raises(TeacherRemoved, match="was removed"):
        next(blocks)
    assert list_teachers(tmp_path) == []
    with pytest.raises(CacheMissing, match="no teacher 'dense'"):
        TargetReader(tmp_path, teacher.name, allow_partial=True)
    remove_teacher(tmp_path, teacher.name)  # the same command sweeps what came late
    assert not list((tmp_path / "targets.zarr").glob("dense"))


def test_reading_what_a_cache_is_needs_no_zarr_no_torch_and_no_threads(tmp_path):
    """A pool of threads that a process leaves behind may abort it when it ends: seen once, on a busy machine."""
    create(tmp_path / "c")
    fill(tmp_path / "c", make_teacher("none"), 1)
    program = (
        "import os, sys, pyarrow.parquet; from deit_pipe.store import ledger, manifest, runs\n"
        "count = lambda: len(os.listdir('/proc/self/task')) if os.path.exists('/proc/self/task') else 0\n"
        "before = count()\n"
        "c = ledger.coverage(sys.argv[1], 'none'); assert c.complete\n"
        "manifest.read_samples(sys.argv[1]); runs.read_runs(sys.argv[1], 'none')\n"
        "print([m for m in ('torch', 'zarr', 'PIL') if m in sys.modules], count() - before)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "c")], capture_output=True, text=True, check=True
    )
    assert out.stdout == "[] 0\n"
