"""Agreement of cached answers with the labels, against what answers that know nothing would reach."""

import numpy as np
import pytest
from inspect_fakes import BASIC, CLASSES, MIXED, make_cache
from rich.console import Console

from deit_pipe.stages.inspection.agreement import agreement_facts
from deit_pipe.stages.inspection.screen import screen
from deit_pipe.stages.inspection.summary import summarise
from deit_pipe.store.gates import gate_key, write_gate
from deit_pipe.store.stored_cache import StoredCache

MIXES = {"mix_group": 2, "mixup_alpha": 0.8, "cutmix_alpha": 1.0, "mix_prob": 1.0}
PLAIN = {**MIXES, "mix_prob": 0.0}
VIEWS = 40_000


def simulated(labels: np.ndarray, guess: np.ndarray | None, classes: int, mixes: bool) -> tuple[float, np.ndarray]:
    """Agreement with either label over random pairs; `guess` None: a perfect teacher of the larger share."""
    random = np.random.Generator(np.random.Philox(1))
    truth = random.permutation(classes)[np.arange(len(labels)) % classes]  # what unlabelled images really are
    real = np.where(labels >= 0, labels, truth)
    own = random.integers(0, len(labels), VIEWS)
    other = random.integers(0, len(labels), VIEWS) if mixes else own
    said = real[own] if guess is None else random.choice(classes, VIEWS, p=guess)
    agree = (said == labels[own]) | (said == labels[other])
    return float(agree.mean()), np.bincount(said, minlength=classes)


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("case", ["balanced", "uneven", "half labelled"])
def test_guessing_is_zero_and_knowing_is_one(case: str, mixes: bool) -> None:
    random = np.random.Generator(np.random.Philox(2))
    shares = {"uneven": [0.7, 0.1, 0.1, 0.1]}.get(case, [0.25] * 4)
    labels = random.choice(4, 2000, p=shares)
    if case == "half labelled":
        labels[::2] = -1
    recipe = MIXES if mixes else PLAIN
    for guess in ([0.25] * 4, [1.0, 0.0, 0.0, 0.0]):
        agreement, said = simulated(labels, np.array(guess), 4, mixes)
        facts = agreement_facts(agreement, labels, {0: said}, 4, recipe)
        assert facts.chance_agreement == pytest.approx(agreement, abs=0.015)
        assert facts.near_chance is True
    agreement, said = simulated(labels, None, 4, mixes)
    facts = agreement_facts(agreement, labels, {0: said}, 4, recipe)
    assert facts.agreement_skill == pytest.approx(1, abs=0.06)
    assert facts.near_chance is False
    assert facts.labelled_share == (0.5 if case == "half labelled" else 1.0)


def test_where_labels_say_nothing_nothing_is_flagged() -> None:
    for labels in (np.full(50, -1), np.zeros(50, np.int64)):
        facts = agreement_facts(0.0, labels, {}, 1 if labels[0] == 0 else 4, PLAIN)
        assert (facts.agreement_skill, facts.near_chance) == (None, False)
    # no labels to be read, nothing sealed: balanced classes are assumed
    facts = agreement_facts(0.25, None, {}, 4, PLAIN)
    assert facts.chance_agreement == pytest.approx(0.25)
    assert facts.near_chance is True


def words(cache: str) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(screen(summarise(cache)))
    console.file.close()
    return console.export_text()


@pytest.mark.parametrize("recipe", [BASIC, MIXED], ids=["plain", "mixed"])
def test_inspect_flags_a_teacher_that_agrees_as_often_as_guessing(tmp_path, monkeypatch, recipe) -> None:
    good = make_cache(tmp_path / "good", recipe=recipe)
    (teacher,) = summarise(str(good.cache)).to_json()["teachers"]
    assert teacher["health"]["near_chance"] is False
    assert "near chance" not in words(str(good.cache))
    random = np.random.Generator(np.random.Philox(4))
    monkeypatch.setattr(
        "inspect_fakes.answer",
        lambda epoch, labels, classes, seed=0, right=0.8: random.standard_normal((len(labels), classes), np.float32),
    )
    bad = make_cache(tmp_path / "bad", recipe=recipe, count=200, block=40)
    (teacher,) = summarise(str(bad.cache)).to_json()["teachers"]
    assert teacher["health"]["near_chance"] is True
    assert teacher["health"]["agreement_skill"] == pytest.approx(0, abs=0.1)
    assert "WARNING: near chance" in words(str(bad.cache))


def test_inspect_shows_the_gate_of_every_kind(tmp_path) -> None:
    made = make_cache(tmp_path)
    cache = str(made.cache)
    assert summarise(cache).to_json()["teachers"][0]["gate"] is None
    assert "  gate " not in words(cache)
    record = {
        "decision": "passed",
        "model": "m",
        "weights_sha256": "ab",
        "head": "trained",
        "image_size": 32,
        "num_classes": 4,
        "measured": 1.0,
        "split": "val",
        "images": 360,
        "accuracy": 0.972,
        "skill": 0.969,
        "skill_low": 0.951,
        "skill_high": 0.981,
        "ece": 0.0213,
        "mean_confidence": 0.9,
    }
    assert write_gate(cache, made.teacher, record)
    shown = "gate      97.2 % of 360 val images, skill 0.97 [0.95, 0.98], ECE 0.021"
    assert shown in words(cache)
    gate = summarise(cache).to_json()["teachers"][0]["gate"]
    assert {name: gate[name] for name in record} == record
    accepted = {
        **record,
        "decision": "accepted",
        "reason": "a skill below 0.2",
        "measured": 2.0,
        "cause": {
            "kind": "class order",
            "text": "turned round",
            "cure": "turn",
            "before": 0.1,
            "after": 0.9,
            "images": 99,
        },
    }
    assert write_gate(cache, made.teacher, accepted)
    text = words(cache)
    assert "gate      accepted by --accept-teacher: 97.2 % of 360 val images" in text
    assert "a skill below 0.2" in text
    assert "likely cause: turned round (without it 90.0 % right instead of 10.0 %, tried on 99 images)" in text
    nothing = {**record, "decision": "not gated", "reason": "random weights", "measured": 3.0}
    assert write_gate(cache, made.teacher, nothing)
    assert "gate      not gated: random weights" in words(cache)
    assert (made.cache / gate_key(made.teacher.name)).is_file()


def test_labels_are_read_without_their_keys_and_damage_is_left_to_verify(tmp_path) -> None:
    made = make_cache(tmp_path, count=40)
    labels = StoredCache(made.cache).labels
    assert labels is not None
    np.testing.assert_array_equal(labels, made.table.labels)
    path = made.cache / "samples.parquet"
    (made.cache / "copies" / "samples.parquet").unlink()
    path.write_bytes(path.read_bytes()[:-30])
    assert StoredCache(made.cache).labels is None
    (teacher,) = summarise(str(made.cache)).to_json()["teachers"]
    assert teacher["health"]["chance_agreement"] == pytest.approx(1 / len(CLASSES))
