from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import MIXED, Made, make_cache, softmax
from PIL import Image

from deit_pipe.pipeline.plan import Purpose, ViewPlan
from deit_pipe.pipeline.recipe import PRESETS
from deit_pipe.pipeline.render import OPS
from deit_pipe.pipeline.views import RAND_OPS, Op, draw_view
from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.inspect_cache import run
from deit_pipe.stages.inspection.view_words import op_words, view_words
from deit_pipe.stages.options.inspect_cache import InspectCacheOptions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("cells"), recipe=MIXED, count=48, epochs=2)


def cell(made: Made, address: str, **options: str) -> tuple[int, dict, str]:
    result = run(InspectCacheOptions(cache=str(made.cache), cell=address, **options))
    return result.exit_code, result.data["cell"], result.text.plain


def test_a_cell_shows_sample_label_partner_and_the_teachers_probabilities(made: Made) -> None:
    rendered = made.views.render(1, np.arange(48))
    mixed = np.flatnonzero(rendered.partner != np.arange(48))
    for slot in (int(mixed[0]), int(np.setdiff1d(np.arange(48), mixed)[0])):
        code, facts, text = cell(made, f"1/{slot}")
        assert code == 0
        sample = int(rendered.samples[slot])
        assert (facts["sample"], facts["key"]) == (sample, made.table.keys[sample])
        assert facts["class_name"] == made.table.class_names[int(made.table.labels[sample])]
        assert facts["fingerprint"] == f"{made.fingerprints[1][slot]:08x}"
        assert facts["fingerprint_equal"] is True
        probabilities = softmax(made.logits[1][slot][None].astype(np.float16).astype(np.float32))[0]
        (answer,) = facts["answers"]
        order = np.argsort(-probabilities)
        assert [one["class"] for one in answer["top"]] == order.tolist()  # four classes: all of them
        assert [one["probability"] for one in answer["top"]] == pytest.approx(probabilities[order])
        assert answer["label"] == made.logits[1][slot].argmax()
        assert answer["tail_mass"] == pytest.approx(0, abs=1e-9)
        partner = int(rendered.partner[slot])
        if partner == slot:
            assert facts["mix"] is None
        else:
            assert facts["mix"]["slot"] == partner
            assert facts["mix"]["sample"] == rendered.samples[partner]
            assert facts["mix"]["lam"] == pytest.approx(float(rendered.lam[slot]))
            assert f"{rendered.lam[slot]:.1%}" in text


def test_top_k_answers_leave_the_exact_mass_of_the_other_classes(tmp_path: Path) -> None:
    made = make_cache(tmp_path, targets="topk:2")
    _, facts, text = cell(made, "0/5")
    best = np.sort(softmax(made.logits[0][5][None])[0])[::-1]
    (answer,) = facts["answers"]
    assert [one["probability"] for one in answer["top"]] == pytest.approx(best[:2], abs=1e-3)
    assert answer["tail_mass"] == pytest.approx(1 - best[:2].sum(), abs=2e-3)
    assert "all other classes" in text


def test_labels_alone_have_no_probabilities_and_an_absent_cell_no_answer(tmp_path: Path) -> None:
    made = make_cache(tmp_path, targets="none", blocks=2)
    _, facts, _ = cell(made, "0/5")
    assert (facts["answers"][0]["top"], facts["answers"][0]["tail_mass"]) == ([], None)
    _, facts, text = cell(made, "2/5")
    assert (facts["answers"], facts["fingerprint_equal"]) == ([], None)
    assert "no answer cached yet" in text


def test_a_cell_that_differs_from_its_fingerprint_says_so(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from deit_pipe.pipeline import render

    monkeypatch.setenv("DEIT_PIPE_ENGINE", "pillow")
    monkeypatch.setitem(render.FILTERS, "bicubic", Image.Resampling.BILINEAR)
    code, facts, text = cell(made, "0/0")
    assert (code, facts["fingerprint_equal"]) == (4, False)
    assert "NOT the cached one" in text


def test_the_picture_shows_image_view_and_mixed_view(made: Made, tmp_path: Path) -> None:
    rendered = made.views.render(0, np.arange(48))
    slot = int(np.flatnonzero(rendered.mix_box.any(axis=1))[0])
    cell(made, f"0/{slot}", png=str(tmp_path / "cell.png"))
    with Image.open(tmp_path / "cell.png") as picture:
        assert picture.size == (3 * 256 + 2 * 8, 256)
        view = np.asarray(picture.crop((264, 0, 520, 256)).convert("RGB"))[4::8, 4::8]
        seen = np.asarray(picture.crop((528, 0, 784, 256)).convert("RGB"))[4::8, 4::8]
    np.testing.assert_array_equal(view, rendered.pixels[slot])
    top, left, height, width = rendered.mix_box[slot]
    box = np.zeros((32, 32), bool)
    box[top : top + height, left : left + width] = True
    partner = int(rendered.partner[slot])
    if not rendered.erase[partner].any():
        np.testing.assert_array_equal(seen[box], rendered.pixels[partner][box])
    assert (seen[box] != view[box]).any()


def test_a_sample_is_found_by_number_and_by_the_end_of_its_path(made: Made) -> None:
    for asked in ("13", made.table.keys[13], made.table.keys[13].rpartition("/")[2]):
        result = run(InspectCacheOptions(cache=str(made.cache), sample=asked))
        facts = result.data["sample"]
        assert (facts["sample"], facts["class"]) == (13, made.table.labels[13])
        places = [
            (epoch, slot) for epoch in range(2) for slot in np.flatnonzero(made.views.plan.sample_at(epoch) == 13)
        ]
        assert [(one["epoch"], one["slot"]) for one in facts["cells"]] == places
        assert [one["answers"][0]["label"] for one in facts["cells"]] == [
            made.logits[epoch][slot].argmax() for epoch, slot in places
        ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "9/0"}, "epoch 0..1"),
        ({"cell": "0/48"}, "slot 0..47"),
        ({"cell": "x"}, "EPOCH/SLOT"),
        ({"sample": "png"}, "48 samples"),
        ({"sample": "nothing"}, "no sample"),
        ({"sample": "48"}, "0..47"),
        ({"png": "a.png"}, "--cell"),
        ({"teacher_weights": "a"}, "--replay"),
        ({"cell": "0/0", "sample": "1"}, "one"),
    ],
)
def test_questions_that_cannot_be_answered_say_what_can(made: Made, options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        run(InspectCacheOptions(cache=str(made.cache), **options))


def moved(op: Op, size: int = 33) -> tuple[float, float]:
    """Where a white dot right of the centre, at (24, 16), goes: (x, y)."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[15:18, 23:26] = 255
    view = draw_view(PRESETS["basic"], ViewPlan(4, seed=0).stream(0, 0, Purpose.VIEW), (size, size), size)
    out = np.asarray(OPS[op.name](Image.fromarray(pixels), op.values, view._replace(fill=(0, 0, 0))))[..., 0].astype(
        float
    )
    total = out.sum()
    return float((out.sum(axis=0) @ np.arange(size)) / total), float((out.sum(axis=1) @ np.arange(size)) / total)


def test_words_tell_the_direction_in_which_the_picture_moves() -> None:
    assert moved(Op("Rotate", (30.0,)))[1] < 15  # anticlockwise lifts what is on the right
    assert op_words(Op("Rotate", (30.0,)), 33) == "rotated 30.0 degrees anticlockwise"
    assert moved(Op("TranslateX", (0.2,)))[0] < 20
    assert op_words(Op("TranslateX", (0.2,)), 33) == "shifted 20% left"
    assert moved(Op("TranslateY", (-0.2,)))[1] > 20
    assert op_words(Op("TranslateY", (-0.2,)), 33) == "shifted 20% down"


def test_words_of_a_warp_recover_the_drawn_numbers() -> None:
    plan = ViewPlan(50, seed=3)
    for slot in range(20):
        view = draw_view(PRESETS["small"], plan.stream(0, slot, Purpose.VIEW), (8, 8), 32)
        (op,) = [op for op in view.ops if op.name == "Affine"]
        words = op_words(op, 32)
        stream = plan.stream(0, slot, Purpose.VIEW)
        stream.uniform()  # the flip
        angle, zoom = stream.uniform(-7, 7), stream.log_uniform(0.9, 1.1)
        x, y = stream.uniform(-2, 2), stream.uniform(-2, 2)
        side, up = ("left" if x < 0 else "right"), ("up" if y < 0 else "down")
        turn = "clockwise" if angle < 0 else "anticlockwise"
        assert words == (
            f"rotated {abs(angle):.1f} degrees {turn}, zoomed x {zoom:.2f}, "
            f"shifted {abs(x):.1f} px {side} and {abs(y):.1f} px {up}"
        )


def test_every_operation_has_words() -> None:
    plan = ViewPlan(500, seed=1)
    recipe = MIXED
    for slot in range(200):
        stream = plan.stream(0, slot, Purpose.VIEW)
        for op in draw_view(recipe, stream, (40, 30), 32).ops:
            assert op_words(op, 32) != str(op)
    view = draw_view(PRESETS["eval"], plan.stream(0, 0, Purpose.VIEW), (40, 30), 32)
    assert view_words(view, (40, 30)) == [
        "whole image 40 x 30 px",
        "resized to 48 x 36 (bicubic)",
        "centre 32 x 32 cut out",
    ]
    assert {name for name, _ in RAND_OPS} <= set(OPS)
