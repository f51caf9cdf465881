import json
import subprocess
import sys

import pytest
from store_fakes import create, fill, make_manifest, make_samples, make_teacher

from deit_pipe.store.errors import CacheCorrupt, CacheMismatch, CacheMissing, FormatInvalid
from deit_pipe.store.ledger import read_runs
from deit_pipe.store.manifest import (
    create_cache,
    list_teachers,
    read_manifest,
    read_provenance,
    read_samples,
    read_teacher,
)
from deit_pipe.store.removal import remove_teacher


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


def test_samples_come_back_and_damage_is_refused(tmp_path):
    create(tmp_path / "c")
    samples = read_samples(tmp_path / "c")
    assert samples.keys[3] == "image-3.png"
    assert samples.class_names == make_samples().class_names
    assert samples.labels.tolist() == make_samples().labels.tolist()
    path = tmp_path / "c" / "samples.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheCorrupt, match=r"samples\.parquet"):
        read_samples(tmp_path / "c")


def test_every_flipped_bit_of_the_manifest_is_refused(tmp_path):
    create(tmp_path / "c")
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
    (tmp_path / "c" / "samples.parquet").write_bytes(b"torn")
    create(tmp_path / "c")
    assert len(read_samples(tmp_path / "c").keys) == 100


def test_a_newer_format_is_refused(tmp_path):
    create(tmp_path / "c")
    path = tmp_path / "c" / "MANIFEST.json"
    path.write_text(path.read_text().replace('"deit_pipe": 2', '"deit_pipe": 3'))
    with pytest.raises(CacheMismatch, match="cache format 3"):
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
    assert freed == size - left
    assert not list((tmp_path / "c").rglob("*/dense/*"))
    assert [run["provenance"] for run in read_runs(tmp_path / "c", "none")] == [{"torch": "none"}]
    with pytest.raises(CacheMissing):
        remove_teacher(tmp_path / "c", "dense")
    fill(tmp_path / "c", make_teacher("dense", weights_sha256="other"), 1)
    assert list_teachers(tmp_path / "c") == ["dense", "none"]


def test_reading_what_a_cache_is_needs_no_zarr_and_no_torch(tmp_path):
    create(tmp_path / "c")
    fill(tmp_path / "c", make_teacher("none"), 1)
    program = (
        "import sys; from deit_pipe.store import ledger, manifest\n"
        "c = ledger.coverage(sys.argv[1], 'none'); assert c.complete\n"
        "manifest.read_samples(sys.argv[1]); ledger.read_runs(sys.argv[1], 'none')\n"
        "print([m for m in ('torch', 'zarr', 'PIL') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "c")], capture_output=True, text=True, check=True
    )
    assert out.stdout == "[]\n"
