"""The gate, with teachers that are wrong in a known way; the digits' honest teacher passes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from teacher_fakes import (
    MODEL,
    NAMES,
    PLACES,
    brightness_net,
    cut,
    data_of,
    digits,
    honest,
    loaded,
    part,
    relabelled,
    run_folder,
    weights_file,
)

from deit_pipe.pipeline.data_set import DataSet
from deit_pipe.stages import cache_teacher
from deit_pipe.stages.console.errors import Mismatch
from deit_pipe.stages.networks.teacher import Teacher
from deit_pipe.stages.opened.gate_result import GateResult, gate_lines, gate_words
from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
from deit_pipe.stages.teaching.gate import MOST, pass_gate, until_clear
from deit_pipe.stages.teaching.published import Known, is_imagenet, known_accuracy
from deit_pipe.store.gates import read_gate, write_gate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers by name: weights files and train-teacher folders."""
    home = tmp_path_factory.mktemp("teachers")
    weights_file(home / "honest.safetensors", honest())
    exchanged = [*PLACES]
    exchanged[2], exchanged[7] = exchanged[7], exchanged[2]
    weights_file(home / "exchanged.safetensors", cut(exchanged))
    weights_file(home / "shuffled.safetensors", cut(np.roll(PLACES, -3)))
    weights_file(home / "brightness.safetensors", brightness_net())
    run_folder(home / "trained", honest())
    run_folder(home / "zero-to-one", honest(), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return home


def whole() -> DataSet:
    return data_of(digits("train"), digits("val"))


def some() -> DataSet:
    """A third of the validation digits: looking for causes asks again and again."""
    return data_of(digits("train"), part(digits("val"), np.arange(0, 360, 3)))


def gate(teacher: Teacher, data: DataSet | None = None, **changed: object) -> GateResult:
    settings: dict[str, object] = {"image_size": 32, "batch_size": 64, "workers": 0}
    return pass_gate(teacher, data or some(), **(settings | changed))  # type: ignore[arg-type]


def refusal(teacher: Teacher, **changed: object) -> str:
    with pytest.raises(Mismatch) as caught:
        gate(teacher, **changed)
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_an_honest_teacher_passes_with_the_accuracy_that_it_has(folder: Path) -> None:
    teacher = loaded(folder / "honest.safetensors")
    found = gate(teacher, whole())
    assert (found.decision, found.reason, found.cause) == ("passed", "", None)
    assert (found.split, found.images, found.classes_seen) == ("val", 256, 10)
    # all 360, by hand
    from teacher_fakes import pixels

    logits = teacher(pixels("val"))
    assert found.accuracy == pytest.approx((logits.argmax(dim=1).numpy() == digits("val").labels).mean(), abs=0.03)
    assert found.mean_confidence == pytest.approx(float(logits.softmax(dim=1).max(dim=1).values.mean()), abs=0.03)
    assert found.skill_low is not None
    assert found.skill_high is not None
    assert found.skill_low > 0.9 > 0.5
    assert found.skill_high <= 1.0


@pytest.mark.parametrize("size", [30, 143])
def test_few_images_are_enough(folder: Path, size: int) -> None:
    rows = np.random.Generator(np.random.Philox(size)).permutation(1437)[:size]
    found = gate(loaded(folder / "honest.safetensors"), data_of(part(digits("train"), rows), None))
    assert (found.decision, found.split, found.images) == ("passed", "train", size)


@pytest.mark.parametrize("rows", [None, 36])
def test_a_mild_teacher_is_let_through_also_on_a_tenth_of_the_images(tmp_path: Path, rows: int | None) -> None:
    """About 60 % of ten classes: poor, and far from guessing."""
    net = honest()
    weight = net.get_classifier().weight  # type: ignore[operator]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    weight.add_(noise * weight.std() * 4)
    val = digits("val") if rows is None else part(digits("val"), np.arange(rows))
    found = gate(loaded(weights_file(tmp_path / "mild.safetensors", net)), data_of(digits("train"), val))
    assert found.accuracy is not None
    assert 0.45 < found.accuracy < 0.8
    assert found.decision in ("passed", "warned")


def test_the_sample_is_no_beginning_of_sorted_data(folder: Path) -> None:
    """Data lie sorted by class: the first 256 of them would be two classes."""
    order = np.argsort(digits("train").labels, kind="stable")
    found = gate(loaded(folder / "honest.safetensors"), data_of(part(digits("train"), order), None))
    assert found.classes_seen == 10
    assert found.images == 256


def test_a_permuted_head_is_refused_and_the_exchange_is_named(folder: Path) -> None:
    text = refusal(loaded(folder / "shuffled.safetensors"))
    assert "does not know these classes" in text
    assert "likely cause: its classes are in another order: it says '0' where it is '3'" in text
    assert "--fit-head" in text
    assert "--accept-teacher" in text
    assert "guessing gets 10.0 %" in text


def test_two_exchanged_classes_are_named_where_the_accuracy_is_known(folder: Path) -> None:
    """Eight of ten classes are right: a skill that passes, but not the accuracy that its folder promises."""
    teacher = replace(loaded(folder / "exchanged.safetensors"), val_top1=0.98)
    found = gate(teacher)
    assert found.decision == "warned"
    assert "clearly below its 98.0 %" in found.reason
    assert found.cause is not None
    assert found.cause.text == "'2' and '7' are exchanged"
    assert found.cause.after > 0.9 > found.cause.before
    unknown = gate(replace(teacher, val_top1=None))
    assert unknown.decision == "warned"
    assert "exchanged" in unknown.reason
    assert unknown.cause == found.cause


def test_other_classes_of_the_same_number_are_refused_without_a_made_up_cause(folder: Path) -> None:
    text = refusal(loaded(folder / "brightness.safetensors"))
    assert "no other order of classes, size or normalisation explains it" in text
    assert "likely cause" not in text


def test_a_teacher_that_never_knew_more_is_told_from_one_of_other_classes(folder: Path) -> None:
    poor = replace(loaded(folder / "brightness.safetensors"), val_top1=0.15)
    assert "that is all it ever knew (15.0 %, teacher.json in" in refusal(poor)
    promised = refusal(replace(poor, val_top1=0.9))
    assert "it should get 90.0 %" in promised
    assert "its classes seem to be others" in promised


def test_a_wrong_normalisation_is_named(folder: Path) -> None:
    text = refusal(loaded(folder / "zero-to-one"))
    assert "another normalisation, its tag's: mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)" in text
    assert "not mean (0, 0, 0), std (1, 1, 1)" in text


def test_a_wrong_size_is_named_and_said(folder: Path) -> None:
    trained = loaded(folder / "trained")
    text = refusal(trained, image_size=16)
    assert "likely cause: it was trained on images of 32 px, these are 16 px" in text
    assert "--img-size 32" in text
    warned = gate(trained, image_size=20)
    assert warned.decision == "warned"
    assert warned.cause is not None
    assert warned.cause.kind == "image size"
    assert f"teacher {MODEL}: trained at 32 px, cached at 20 px" in gate_lines(warned)
    assert not any("trained at" in line for line in gate_lines(gate(trained)))


def test_a_refused_teacher_can_be_accepted_and_that_is_recorded(folder: Path) -> None:
    found = gate(loaded(folder / "shuffled.safetensors"), accept=True)
    assert found.decision == "accepted"
    assert found.cause is not None
    assert found.cause.kind == "class order"
    assert gate_words(found).startswith("accepted by --accept-teacher: ")
    assert any(line.startswith("WARNING: a skill below 0.2") for line in gate_lines(found))
    # a good teacher is not marked because of the option
    assert gate(loaded(folder / "honest.safetensors"), accept=True).decision == "passed"


def test_what_cannot_be_judged_is_not_gated_and_says_why(folder: Path) -> None:
    teacher = loaded(folder / "honest.safetensors")
    nothing = relabelled(digits("val"), np.full(360, -1))
    one = relabelled(digits("val"), np.where(digits("val").labels == 3, 3, -1))
    for data, asked, why in (
        (data_of(nothing, None), teacher, "no image has a label"),
        (data_of(nothing, nothing), teacher, "no image has a label"),
        (data_of(one, nothing), teacher, "all labelled images are of one class"),
        (whole(), loaded("random"), "random weights"),
    ):
        found = gate(asked, data)
        assert (found.decision, found.reason, found.accuracy) == ("not gated", why, None)
        assert gate_words(found) == f"not gated: {why}"
    # training images judge where the validation images cannot; unlabelled ones are left out
    labels = digits("train").labels.copy()
    labels[: len(labels) // 2] = -1
    found = gate(teacher, data_of(relabelled(digits("train"), labels), one))
    assert (found.split, found.decision) == ("train", "passed")
    assert found.images == 256


def test_a_result_survives_json(folder: Path) -> None:
    for found in (
        gate(loaded(folder / "honest.safetensors")),
        gate(loaded(folder / "shuffled.safetensors"), accept=True),
        gate(loaded("random")),
    ):
        text = json.dumps(found.to_json(), allow_nan=False)
        assert GateResult.from_json(json.loads(text) | {"of a later version": 1}) == found


def test_it_asks_until_it_is_clear_and_no_further(folder: Path) -> None:
    """A teacher at a bound is asked about everything; one far from it about 256 images."""
    from deit_pipe.stages.teaching.answers import Answers

    random = np.random.Generator(np.random.Philox(3))
    labels = random.integers(0, 10, MOST)

    def steps(accuracy: float, asked: list[int]):  # type: ignore[no-untyped-def]
        right = random.random(MOST) < accuracy
        for count in range(256, MOST + 256, 256):
            asked.append(min(count, MOST))
            said = np.where(right, labels, (labels + 1) % 10)[:count]
            yield Answers(labels[:count], said, np.ones(len(said)), 10)

    for accuracy, known, expected in (
        (0.95, None, 256),
        (0.05, None, 256),
        (0.55, None, MOST),
        (0.9, Known(0.95, "x"), MOST),
    ):
        asked: list[int] = []
        answers = until_clear(steps(accuracy, asked), known)
        assert len(answers) == asked[-1] == expected, accuracy


def test_what_is_published_counts_for_imagenet_only(folder: Path) -> None:
    teacher = replace(loaded("random"), tag="regnety_160.deit_in1k", head="pretrained")
    imagenet = ("n01440764", *(f"n{i}" for i in range(998)), "n15075141")
    assert is_imagenet(imagenet)
    known = known_accuracy(teacher, imagenet)
    assert known is not None
    assert known.accuracy == 0.83
    assert known_accuracy(teacher, NAMES) is None
    assert known_accuracy(teacher, imagenet[1:]) is None
    assert known_accuracy(replace(teacher, head="fitted"), imagenet) is None
    folder_known = known_accuracy(replace(teacher, val_top1=0.5, source="run"), NAMES)
    assert folder_known == Known(0.5, "teacher.json in run")


# --- the command


def options(cache: Path, weights: Path | str, **changed: object) -> CacheTeacherOptions:
    settings: dict[str, object] = {
        "teacher": "test_resnet",
        "teacher_weights": str(weights),
        "cache": str(cache),
        "epochs": 1,
        "workers": 0,
        "device": "cpu",
        "recipe": "eval",
    }
    return CacheTeacherOptions(**(settings | changed))


def test_a_refused_teacher_leaves_no_cache_and_an_accepted_one_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deit_pipe.stages.cache_teacher.open_for_cache", lambda *_: some())
    cache = tmp_path / "cache"
    with pytest.raises(Mismatch, match="likely cause"):
        cache_teacher.run(options(cache, folder / "shuffled.safetensors"))
    assert not cache.exists()
    cache_teacher.run(options(cache, folder / "shuffled.safetensors", accept_teacher=True))
    there = read_gate(cache, MODEL)
    assert there is not None
    assert there["decision"] == "accepted"
    assert "WARNING: a skill below 0.2" in capsys.readouterr().err
    # the acceptance counts for this teacher from now on; it is not asked again
    again = cache_teacher.run(options(cache, folder / "shuffled.safetensors", epochs=2))
    assert again.data["written"] > 0
    assert read_gate(cache, MODEL) == there
    assert "WARNING: a skill below 0.2" in capsys.readouterr().err


def test_random_weights_are_not_gated_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache_teacher.run(options(tmp_path / "cache", "random"))
    there = read_gate(tmp_path / "cache", MODEL)
    assert there is not None
    assert (there["decision"], there["reason"]) == ("not gated", "random weights")
    assert "not gated: random weights" in capsys.readouterr().err


def test_a_damaged_record_is_named_by_verify_and_measured_again(folder: Path, tmp_path: Path) -> None:
    from deit_pipe.stages.inspection.summary import summarise
    from deit_pipe.store.removal import remove_teacher
    from deit_pipe.store.verify import verify

    cache = tmp_path / "cache"
    cache_teacher.run(options(cache, folder / "honest.safetensors"))
    path = cache / "ledger" / MODEL / "gate.json"
    good = path.read_bytes()
    assert verify(cache, "deep").ok
    path.write_bytes(good.replace(b'"accepted"', b'"passed"').replace(b'"passed"', b'"PASSED"'))
    (finding,) = verify(cache, "sizes")
    assert str(finding) == f"{MODEL}: gate: fails its SHA-256 (ledger/{MODEL}/gate.json)"
    facts = summarise(str(cache)).to_json()
    assert (facts["state"], facts["teachers"][0]["gate"]) == ("damaged", None)
    assert facts["damage"] == [str(finding)]
    assert facts["next"].startswith("deit-pipe cache-teacher ")
    cache_teacher.run(options(cache, folder / "honest.safetensors"))
    assert verify(cache, "deep").ok
    assert read_gate(cache, MODEL) is not None
    remove_teacher(cache, MODEL)
    assert not path.exists()
    assert read_gate(cache, MODEL) is None


def test_a_record_of_another_teacher_is_not_believed(folder: Path, tmp_path: Path) -> None:
    from deit_pipe.store.manifest import read_teacher

    cache = tmp_path / "cache"
    cache_teacher.run(options(cache, folder / "honest.safetensors"))
    there = read_gate(cache, MODEL)
    assert there is not None
    own = read_teacher(cache, MODEL)
    assert write_gate(cache, replace(own, weights_sha256="cd" * 32), there | {"accuracy": 0.1})
    cache_teacher.run(options(cache, folder / "honest.safetensors"))
    again = read_gate(cache, MODEL)
    assert again is not None
    assert (again["identity"], again["accuracy"]) == (own.digest, there["accuracy"])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (0.1, 0.95, True),
        (0.75, 0.83, True),
        (0.1, 0.4, False),  # better, and still of no use
        (0.9, 0.94, False),  # not worth naming
        (0.9, 0.9, False),
    ],
)
def test_a_cause_is_named_only_if_it_helps(before: float, after: float, expected: bool) -> None:
    """The same 256 images, right from the first on."""
    from deit_pipe.stages.teaching.answers import Answers
    from deit_pipe.stages.teaching.causes import lifts

    labels = np.arange(256) % 10

    def answers(share: float) -> Answers:
        right = np.arange(256) < share * 256
        return Answers(labels, np.where(right, labels, (labels + 1) % 10), np.ones(256), 10)

    assert lifts(answers(before), answers(after)) is expected


def test_a_cause_is_not_named_for_what_luck_can_do() -> None:
    """Nine of 40 answers turn right and five turn wrong: a gain of a tenth that means nothing."""
    from deit_pipe.stages.teaching.answers import Answers
    from deit_pipe.stages.teaching.causes import lifts

    labels = np.arange(40) % 10
    wrong = (labels + 1) % 10
    rows = np.arange(40)
    before = Answers(labels, np.where(rows < 26, labels, wrong), np.ones(40), 10)
    after = Answers(labels, np.where((rows >= 5) & (rows < 35), labels, wrong), np.ones(40), 10)
    assert after.accuracy.value - before.accuracy.value == pytest.approx(0.1)
    assert not lifts(before, after)


def test_a_record_is_replaced_only_by_a_newer_one_or_for_another_teacher(tmp_path: Path) -> None:
    from store_fakes import create, make_teacher

    create(tmp_path)
    teacher = make_teacher("dense")
    assert write_gate(tmp_path, teacher, {"measured": 10.0, "accuracy": 0.5})
    assert not write_gate(tmp_path, teacher, {"measured": 9.0, "accuracy": 0.6})
    there = read_gate(tmp_path, teacher.name)
    assert there == {"measured": 10.0, "accuracy": 0.5, "identity": teacher.digest}
    assert write_gate(tmp_path, teacher, {"measured": 11.0, "accuracy": 0.7})
    other = replace(teacher, weights_sha256="cd" * 32)
    assert write_gate(tmp_path, other, {"measured": 1.0, "accuracy": 0.8})
    there = read_gate(tmp_path, teacher.name)
    assert there is not None
    assert there["identity"] == other.digest


# --- what outside testers found


def always_first() -> torch.nn.Module:
    """Says class 0 whatever it sees."""
    net = honest()
    head = net.get_classifier()  # type: ignore[operator]
    head.weight.zero_()
    head.bias.copy_(torch.eye(10)[0] * 5)
    return net


def test_a_constant_teacher_is_refused_also_where_few_validation_images_cannot_tell(tmp_path: Path) -> None:
    val = digits("val")
    few = [*np.flatnonzero(val.labels == 0)[:12], *np.flatnonzero(val.labels == 1)[:1]]
    teacher = loaded(weights_file(tmp_path / "constant.safetensors", always_first()))
    with pytest.raises(Mismatch, match="does not know these classes") as caught:
        gate(teacher, data_of(digits("train"), part(val, np.sort(np.asarray(few)))))
    assert "train images" in str(caught.value)


def test_too_few_images_to_tell_from_guessing_are_said(folder: Path) -> None:
    two = part(digits("train"), np.asarray([np.flatnonzero(digits("train").labels == c)[0] for c in (0, 1)]))
    found = gate(loaded(folder / "shuffled.safetensors"), data_of(two, None), accept=True)
    assert found.decision in ("warned", "accepted")
    assert found.cause is None  # two images fit any order


def test_answers_that_are_not_finite_are_refused_whatever_is_accepted(tmp_path: Path) -> None:
    net = honest()
    net.get_classifier().weight[3, 0] = torch.nan  # type: ignore[operator]
    with pytest.raises(Mismatch, match="not finite"):
        gate(loaded(weights_file(tmp_path / "nan.safetensors", net)), accept=True)


def test_a_file_of_ones_own_has_no_published_size(folder: Path) -> None:
    assert loaded(folder / "honest.safetensors").trained_size is None
