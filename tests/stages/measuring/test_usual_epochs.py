"""How many epochs are cached where nobody says: what is there, else a third of what a student would train."""

from pathlib import Path

import pytest
from stage_fakes import cache_options, write_idx

from deit_pipe.pipeline.data_set import DataChoice
from deit_pipe.pipeline.plan import ViewPlan
from deit_pipe.pipeline.recipe import load_recipe
from deit_pipe.stages import cache_teacher
from deit_pipe.stages.measuring.usual_epochs import usual_epochs, usual_training
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.opened.cache import open_if_there
from deit_pipe.stages.opened.images import open_images
from deit_pipe.store import stored_cache


def digits(recipe: str, size: int) -> ViewSource:
    table, chosen = open_images("digits", DataChoice()).train, load_recipe(recipe)
    return ViewSource(table, chosen, ViewPlan.for_recipe(len(table), chosen, 0), size)


@pytest.mark.parametrize(
    ("recipe", "size", "preset", "trained", "cached"), [("small", 32, "small", 45, 15), ("deit", 224, "few", 300, 100)]
)
def test_a_third_of_what_a_student_would_train(recipe: str, size: int, preset: str, trained: int, cached: int) -> None:
    source = digits(recipe, size)
    assert usual_training(source) == (preset, trained)
    found, why = usual_epochs(None, "a", source)
    assert found == cached
    assert f"a third of the {trained} that preset {preset} trains" in why


def test_a_cache_that_is_there_keeps_its_epochs_and_a_teacher_that_joins_has_them_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cache = write_idx(tmp_path / "data"), tmp_path / "cache"
    cache_teacher.run(cache_options(data, cache, epochs=2))
    source = digits("small", 32)
    there = open_if_there(str(cache))
    assert there is not None
    (name,) = there.stored.teacher_names
    assert usual_epochs(there, name, source) == (2, "as many as are wanted already")
    assert usual_epochs(there, "another", source) == (2, "as many as the other teachers have")
    with pytest.MonkeyPatch.context() as patch:  # markers say it: no ledger, no block is read for it
        patch.setattr(stored_cache, "ledger_of", lambda *_, **__: pytest.fail("the ledger was read"))
        fresh = open_if_there(str(cache))
        assert fresh is not None
        assert usual_epochs(fresh, name, source)[0] == 2
    again = cache_teacher.run(cache_options(data, cache, epochs=None))
    assert (again.data["written"], again.data["epochs"]) == (0, 2)
    assert "2 epochs: as many as are wanted already" in capsys.readouterr().err
