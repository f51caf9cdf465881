from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from inspect_fakes import BASIC, CLASSES, MIXED, Made, make_cache

from deit_pipe.stages.inspection.analysis import Analysis, analyse
from deit_pipe.stages.opened.arrays import CachedArrays


@pytest.fixture(scope="module", params=[MIXED, BASIC], ids=["mixed", "plain"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_cache(tmp_path_factory.mktemp("cache"), recipe=request.param, epochs=6, count=50)


def analysis_of(made: Made, most_views: int = 10**6) -> Analysis:
    arrays = CachedArrays(str(made.cache), "known")
    return analyse(arrays, made.views.recipe, made.views.plan, made.table.labels, most_views)


def answers_by_sample(made: Made) -> dict[int, list[int]]:
    """Teacher labels of the views in which each sample has the larger share, one by one."""
    found: dict[int, list[int]] = {}
    for epoch in made.logits:
        rendered = made.views.render(epoch, np.arange(len(made.table)))
        for slot, logits in enumerate(made.logits[epoch]):
            if rendered.lam[slot] >= 0.5:
                found.setdefault(int(rendered.samples[slot]), []).append(int(logits.argmax()))
    return found


def test_confusions_and_class_accuracy_equal_a_count_of_every_view(made: Made) -> None:
    found = analysis_of(made)
    confusion = np.zeros((4, 4), int)
    for epoch in made.logits:
        for true, said in zip(made.labels[epoch], made.logits[epoch].argmax(axis=1), strict=True):
            confusion[true, said] += 1
    np.testing.assert_array_equal(found.confusion, confusion)
    assert (found.views, found.every) == (300, 1)
    for one in range(len(CLASSES)):
        assert found.class_accuracy[one] == confusion[one, one] / confusion[one].sum()
    wrong = sorted(((confusion[t, s], t, s) for t in range(4) for s in range(4) if t != s), reverse=True)
    pairs = found.confused_pairs(3)
    assert [count for _, _, count in pairs] == [count for count, _, _ in wrong[:3]]
    assert all(confusion[true, said] == count for true, said, count in pairs)


def test_flips_equal_a_count_sample_by_sample(made: Made) -> None:
    found = analysis_of(made)
    answers = {sample: said for sample, said in answers_by_sample(made).items() if len(said) >= 2}
    most = {sample: max(said.count(one) for one in said) for sample, said in answers.items()}
    views = sum(len(said) for said in answers.values())
    assert found.flip_rate == pytest.approx(1 - sum(most.values()) / views)
    bins = [min(19, int(Fraction(most[sample], len(said)) * 20)) for sample, said in answers.items()]
    np.testing.assert_array_equal(found.flips, np.bincount(bins, minlength=20))


def test_the_hardest_samples_are_those_answered_wrong_most_often(made: Made) -> None:
    found = analysis_of(made)
    answers = answers_by_sample(made)
    share = {s: np.mean([one == made.table.labels[s] for one in said]) for s, said in answers.items() if len(said) >= 2}
    hardest = found.hardest_samples(5).tolist()
    assert [share[s] for s in hardest] == sorted(v for v in share.values() if v < 1)[:5]
    for sample in hardest:
        said = answers[sample]
        label = made.table.labels[sample]
        wrong = [one for one in said if one != label]
        assert found.sample_views[sample] == len(said)
        assert found.sample_right[sample] == len(said) - len(wrong)
        assert found.sample_wrong_views[sample] == max(wrong.count(one) for one in wrong)
        assert wrong.count(int(found.sample_wrong[sample])) == found.sample_wrong_views[sample]


def test_of_a_large_cache_every_kth_sample_is_looked_at_in_all_its_views(made: Made) -> None:
    found = analysis_of(made, most_views=100)
    assert found.every == 3
    views = sum(int((made.views.plan.sample_at(epoch) % 3 == 0).sum()) for epoch in range(6))
    assert found.views == views
    whole = analysis_of(made)
    kept = np.arange(50) % 3 == 0
    np.testing.assert_array_equal(found.sample_views[kept], whole.sample_views[kept])
    assert not found.sample_views[~kept].any()


def test_only_committed_views_count(tmp_path: Path) -> None:
    made = make_cache(tmp_path, blocks=2)
    found = analysis_of(made)
    assert found.views == 16
    assert found.flip_rate is None
    assert found.hardest_samples(3).tolist() != []
