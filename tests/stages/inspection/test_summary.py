import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import BASIC, CLASSES, MIXED, Made, make_cache, softmax
from store_fakes import flip_bit

from deit_pipe.pipeline.recipe import Recipe
from deit_pipe.stages.console.facts import Facts
from deit_pipe.stages.inspection import facts as facts_module
from deit_pipe.stages.inspection import summary as cache_summary
from deit_pipe.stages.inspection.summary import settled, summarise
from deit_pipe.store.layout import Block
from deit_pipe.store.stored_cache import StoredCache
from deit_pipe.store.writing.zarr_copy import write_zarr


@pytest.fixture(scope="module", params=[("dense", MIXED), ("topk:2", BASIC), ("none", BASIC)], ids=lambda p: p[0])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    targets, recipe = request.param
    # the last block of an epoch is ragged: means must be weighted
    return make_cache(tmp_path_factory.mktemp("cache"), targets=targets, recipe=recipe, count=44)


def everything(made: Made) -> tuple[np.ndarray, ...]:
    """Logits, labels and partner labels of all cells."""
    return tuple(np.concatenate([of[e] for e in made.logits]) for of in (made.logits, made.labels, made.partners))


def test_health_equals_a_direct_computation_from_all_logits(made: Made) -> None:
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    logits, labels, partners = everything(made)
    said, probabilities = logits.argmax(axis=1), softmax(logits)
    health = teacher["health"]
    assert health["agrees_with_label"] == (said == labels).mean()
    assert health["agrees_with_label_or_partner"] == ((said == labels) | (said == partners)).mean()
    assert health["mean_top1_probability"] == pytest.approx(probabilities.max(axis=1).mean(), abs=1e-6)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    assert health["mean_entropy"] == pytest.approx(entropy.mean(), abs=1e-5)
    assert health["confidence"] == np.histogram(probabilities.max(axis=1), 20, (0, 1))[0].tolist()
    half = np.sort(logits.astype(np.float16), axis=1)
    assert health["ties"] == (half[:, -1] == half[:, -2]).mean()
    mass = np.sort(probabilities, axis=1)[:, -2:].sum(axis=1).mean()
    expected = pytest.approx(mass, abs=1e-3) if made.teacher.targets == "topk:2" else None
    assert health["topk_mass"] == expected


def test_every_epoch_and_every_class_is_counted(made: Made) -> None:
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    for epoch, facts in enumerate(teacher["per_epoch"]):
        said, probabilities = made.logits[epoch].argmax(axis=1), softmax(made.logits[epoch])
        assert facts["epoch"] == epoch
        assert facts["agrees_with_label"] == (said == made.labels[epoch]).mean()
        assert facts["mean_top1_probability"] == pytest.approx(probabilities.max(axis=1).mean(), abs=1e-6)
    counts = np.bincount(everything(made)[0].argmax(axis=1), minlength=len(CLASSES))
    classes = teacher["classes"]
    assert classes["counts"] == counts.tolist()
    assert (classes["least"], classes["most"], classes["views"]) == (counts.argmin(), counts.argmax(), 132)


def test_sizes_are_those_of_the_files(made: Made, tmp_path: Path) -> None:
    write_zarr(StoredCache(made.cache), str(tmp_path / "plain"))
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    root = made.cache / "targets.zarr" / made.teacher.name
    for array in teacher["arrays"]:
        size = array["stored_bytes"]
        metadata = json.loads((tmp_path / "plain" / made.teacher.name / array["name"] / "zarr.json").read_text())
        assert array["shape"] == metadata["shape"]
        assert array["dtype"] == metadata["data_type"]
        assert array["dims"] == metadata["dimension_names"]
        assert array["bytes_per_view"] == size / 132
        raw = np.dtype(array["dtype"]).itemsize * np.prod(array["shape"])
        assert (array["raw_bytes"], array["ratio"]) == (raw, raw / size)
    files = [path for path in root.glob("*/c/**/*") if path.is_file()]
    assert teacher["bytes"] == sum(path.stat().st_size for path in files)
    headers = teacher["bytes"] - sum(array["stored_bytes"] for array in teacher["arrays"])
    assert 500 * len(files) < headers < 3000 * len(files)
    assert teacher["bytes_per_view"] == teacher["bytes"] / 132


def test_a_whole_cache_is_complete_and_training_comes_next(made: Made) -> None:
    facts = summarise(str(made.cache)).to_json()
    assert (facts["state"], facts["complete"]) == ("complete", True)
    assert facts["next"] == f"deit-pipe train-student --cache {made.cache}"
    (teacher,) = facts["teachers"]
    assert (teacher["blocks_committed"], teacher["blocks_total"], teacher["views"]) == (18, 18, 132)
    assert teacher["left"] == {"blocks": 0, "views": 0, "seconds": 0.0}
    assert all(epoch["sealed"] for epoch in teacher["coverage"])


def test_a_half_finished_cache_says_how_far_it_is_and_how_to_go_on(tmp_path: Path) -> None:
    made = make_cache(tmp_path, blocks=7, targets="topk:2")
    facts = summarise(str(made.cache)).to_json()
    (teacher,) = facts["teachers"]
    assert facts["state"] == "incomplete"
    assert [(e["blocks"], e["slots"], e["sealed"]) for e in teacher["coverage"]] == [
        (5, 40, True),
        (2, 16, False),
        (0, 0, False),
    ]
    assert teacher["left"]["blocks"] == 8
    assert teacher["left"]["views"] == 64
    assert 0 < teacher["left"]["seconds"] < 600
    words = shlex.split(facts["next"])
    assert words[:2] == ["deit-pipe", "cache-teacher"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options == {
        "--teacher": "resnet18.a1_in1k",
        "--data": str(made.data),
        "--recipe": "custom",
        "--img-size": "32",
        "--epochs": "3",
        "--seed": "7",
        "--logits": "topk:2",
        "--batch-size": "8",
        "--set": "block=8",
        "--name": "known",
        "--teacher-weights": "my weights.pt",
        "--cache": str(made.cache),
    }


def test_the_time_left_follows_the_rate_of_the_last_run() -> None:
    columns = {
        "written": np.array([0.0, 1.0, 100.0, 102.0, 104.0]),
        "run": np.array(["a", "a", "b", "b", "b"], object),
        "start": np.zeros(5, np.int64),
        "stop": np.full(5, 10),
    }
    assert cache_summary.seconds_left(columns, 40) == 8.0  # 20 views in 4 s after the first block of run b
    assert cache_summary.seconds_left({name: column[:1] for name, column in columns.items()}, 40) is None


def test_a_cache_without_a_block_is_empty(tmp_path: Path) -> None:
    facts = summarise(str(make_cache(tmp_path, blocks=0).cache)).to_json()
    assert facts["state"] == "empty"
    (teacher,) = facts["teachers"]
    assert (teacher["health"], teacher["classes"], teacher["bytes_per_view"], teacher["outliers"]) == (
        None,
        None,
        None,
        [],
    )
    json.dumps(facts, allow_nan=False)


def test_a_planted_block_of_wrong_answers_is_the_first_outlier(tmp_path: Path) -> None:
    made = make_cache(tmp_path, block=20, count=200, epochs=4, spoil=Block(2, 7, 140, 160))
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    first = teacher["outliers"][0]
    assert (first["epoch"], first["block"], first["slots"], first["statistic"]) == (
        2,
        7,
        [140, 159],
        "agreement",
    )
    assert first["value"] == 0.0
    assert len(teacher["outliers"]) == 1


def test_damage_decides_the_state_and_the_next_command(tmp_path: Path) -> None:
    stored = StoredCache(make_cache(tmp_path).cache)
    facts = summarise(stored)
    assert facts.state == "complete"
    damaged = settled(facts, ["known: logits, epoch 0, slots 0..7: is missing"], stored)
    assert (damaged.state, facts.state) == ("damaged", "complete")
    assert damaged.next.startswith("deit-pipe cache-teacher --teacher resnet18.a1_in1k")


def test_a_damaged_index_is_a_note_and_a_damaged_block_that_no_index_has_is_damage(tmp_path: Path) -> None:
    made = make_cache(tmp_path)
    folder = made.cache / "ledger" / "known"
    (sealed,) = list((folder / "sealed").glob("0000-*"))
    sealed.write_bytes(b"nothing")
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    assert (teacher["damage"], len(teacher["notes"]), teacher["complete"]) == ([], 1, True)
    flip_bit(made.cache, "known", "header", 0, 2, bit=801)
    facts = summarise(str(made.cache)).to_json()
    assert facts["state"] == "damaged"
    assert facts["damage"] == ["known: header: fails its SHA-256 (targets.zarr/known/logits/c/0/2/0)"]


def test_every_key_is_documented() -> None:
    """The fields are the keys of `--json`: each is explained by its class, or by the one line of a small one."""
    classes = [one for one in vars(facts_module).values() if isinstance(one, type) and issubclass(one, Facts)]
    assert len(classes) > 8
    for one in classes:
        for field in dataclasses.fields(one):
            assert re.search(rf"\b{field.name}\b", one.__doc__ or ""), (one, field.name)


def test_the_recipe_is_in_the_identity(made: Made) -> None:
    assert Recipe.from_json(summarise(str(made.cache)).to_json()["manifest"]["recipe"]) == made.views.recipe
