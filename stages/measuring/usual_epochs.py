"""How many epochs to cache where nobody says: those that are there, or enough for the student that these images get."""

from deit_pipe.stages.machine.cost_model import ENOUGH_REUSE
from deit_pipe.stages.measuring.views import ViewSource
from deit_pipe.stages.opened.cache import OpenedCache
from deit_pipe.stages.options.train_student import TrainStudentOptions
from deit_pipe.stages.training.settings import choose_preset, resolve_settings


def usual_training(source: ViewSource) -> tuple[str, int]:
    """The preset that a student of these images would take, and its epochs."""
    options = TrainStudentOptions()
    preset = choose_preset(options, source.recipe, source.image_size, len(source.table)).name
    return preset, resolve_settings(options, preset, num_samples=len(source.table)).epochs


def usual_epochs(there: OpenedCache | None, name: str, source: ViewSource) -> tuple[int, str]:
    """Epochs to cache of a teacher, and why; a cache that is there is neither extended nor left behind by others."""
    wanted = {one: there.stored.teacher(one).wanted_epochs for one in there.stored.teacher_names} if there else {}
    known = {one: epochs for one, epochs in wanted.items() if epochs}
    if name in known:
        return known[name], "as many as are wanted already"
    if known:
        return max(known.values()), "as many as the other teachers have"
    preset, trained = usual_training(source)
    return -(-trained // ENOUGH_REUSE), f"a third of the {trained} that preset {preset} trains"
