"""deit-pipe: run the teacher once, train every DeiT student from its cached answers on exactly the same views.

What is listed in `__all__` is the Python face; everything else may change. It is imported when it is first asked for,
so `import deit_pipe` costs nothing. A command is a function of its options class: the same values, the same errors
(`DeitPipeError`), the same result as on the command line, typed: `facts` is a frozen dataclass, `data` its JSON.

>>> import deit_pipe
>>> deit_pipe.TrainStudentOptions(loss="sft", alpha=-3)
Traceback (most recent call last):
deit_pipe.stages.console.errors.UsageProblem: --loss cannot be 'sft': expected one of none, hard, soft, mse
>>> found = deit_pipe.show_recipe(deit_pipe.ShowRecipeOptions(recipe="deit"))
>>> found.facts.mixing, found.data["recipe"]["repeats"]
('pair', 3)
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deit_pipe.pipeline.plan import ViewPlan
    from deit_pipe.pipeline.recipe import Recipe
    from deit_pipe.stages.answering.scores import StudentScores
    from deit_pipe.stages.bench import run as bench
    from deit_pipe.stages.cache_teacher import CachedTeacher
    from deit_pipe.stages.cache_teacher import run as cache_teacher
    from deit_pipe.stages.check_data import CheckedData
    from deit_pipe.stages.check_data import run as check_data
    from deit_pipe.stages.compare import ComparedRuns
    from deit_pipe.stages.compare import run as compare
    from deit_pipe.stages.console.result import CommandResult
    from deit_pipe.stages.evaluate import run as evaluate
    from deit_pipe.stages.export import ExportedStudent
    from deit_pipe.stages.export import run as export
    from deit_pipe.stages.face.cache import Cache, open_cache
    from deit_pipe.stages.face.timm_task import CachedDistillationTask
    from deit_pipe.stages.features import FeaturesFile
    from deit_pipe.stages.features import run as features
    from deit_pipe.stages.inspect_cache import InspectedCache, InspectedCell, InspectedSample
    from deit_pipe.stages.inspect_cache import run as inspect_cache
    from deit_pipe.stages.inspection.diff import CacheDifference
    from deit_pipe.stages.inspection.made_again import RebuiltIndex, UpgradedCache, ZarrCopy
    from deit_pipe.stages.list_models import ListedModels
    from deit_pipe.stages.list_models import run as list_models
    from deit_pipe.stages.measuring.bench_words import BenchFacts
    from deit_pipe.stages.measuring.estimate import CacheEstimate
    from deit_pipe.stages.measuring.planned_cost import PlannedCost
    from deit_pipe.stages.options.bench import BenchOptions
    from deit_pipe.stages.options.cache_teacher import CacheTeacherOptions
    from deit_pipe.stages.options.compare import CompareOptions
    from deit_pipe.stages.options.data import CheckDataOptions
    from deit_pipe.stages.options.evaluate import EvaluateOptions
    from deit_pipe.stages.options.export import ExportOptions
    from deit_pipe.stages.options.inspect_cache import InspectCacheOptions
    from deit_pipe.stages.options.list_models import ListModelsOptions
    from deit_pipe.stages.options.pack import PackOptions
    from deit_pipe.stages.options.quickstart import QuickstartOptions
    from deit_pipe.stages.options.remove_teacher import RemoveTeacherOptions
    from deit_pipe.stages.options.run_report import RunReportOptions
    from deit_pipe.stages.options.show_recipe import ShowRecipeOptions
    from deit_pipe.stages.options.show_views import ShowViewsOptions
    from deit_pipe.stages.options.train_student import TrainStudentOptions
    from deit_pipe.stages.options.train_teacher import TrainTeacherOptions
    from deit_pipe.stages.options.use.features import FeaturesOptions
    from deit_pipe.stages.options.use.predict import PredictOptions
    from deit_pipe.stages.pack import PackedData
    from deit_pipe.stages.pack import run as pack
    from deit_pipe.stages.predict import Predictions
    from deit_pipe.stages.predict import run as predict
    from deit_pipe.stages.quickstart import QuickstartFacts
    from deit_pipe.stages.quickstart import run as quickstart
    from deit_pipe.stages.remove_teacher import RemovedTeacher
    from deit_pipe.stages.remove_teacher import run as remove_teacher
    from deit_pipe.stages.report import RunPage
    from deit_pipe.stages.report import run as report
    from deit_pipe.stages.show_recipe import RecipeFacts
    from deit_pipe.stages.show_recipe import run as show_recipe
    from deit_pipe.stages.show_views import ShownViews
    from deit_pipe.stages.show_views import run as show_views
    from deit_pipe.stages.train_student import run as train_student
    from deit_pipe.stages.train_teacher import TrainedTeacher
    from deit_pipe.stages.train_teacher import run as train_teacher
    from deit_pipe.stages.training.losses import DistillationLoss, LossParts
    from deit_pipe.stages.training.outcome import RunSettings, TrainedStudent
    from deit_pipe.stages.training.proven_batches import Batch
    from deit_pipe.stages.training.targets import Answers
    from deit_pipe.store.writer import TargetWriter

__version__ = "0.2.0"

__all__ = [
    "Answers",
    "Batch",
    "BenchFacts",
    "BenchOptions",
    "Cache",
    "CacheDifference",
    "CacheEstimate",
    "CacheTeacherOptions",
    "CachedDistillationTask",
    "CachedTeacher",
    "CheckDataOptions",
    "CheckedData",
    "CommandResult",
    "CompareOptions",
    "ComparedRuns",
    "DeitPipeError",
    "DistillationLoss",
    "EvaluateOptions",
    "ExportOptions",
    "ExportedStudent",
    "FeaturesFile",
    "FeaturesOptions",
    "InspectCacheOptions",
    "InspectedCache",
    "InspectedCell",
    "InspectedSample",
    "ListModelsOptions",
    "ListedModels",
    "LossParts",
    "PackOptions",
    "PackedData",
    "PlannedCost",
    "PredictOptions",
    "Predictions",
    "QuickstartFacts",
    "QuickstartOptions",
    "RebuiltIndex",
    "Recipe",
    "RecipeFacts",
    "RemoveTeacherOptions",
    "RemovedTeacher",
    "RunPage",
    "RunReportOptions",
    "RunSettings",
    "ShowRecipeOptions",
    "ShowViewsOptions",
    "ShownViews",
    "StudentScores",
    "TargetWriter",
    "TrainStudentOptions",
    "TrainTeacherOptions",
    "TrainedStudent",
    "TrainedTeacher",
    "UpgradedCache",
    "ViewPlan",
    "ZarrCopy",
    "__version__",
    "bench",
    "cache_teacher",
    "check_data",
    "compare",
    "evaluate",
    "export",
    "features",
    "inspect_cache",
    "list_models",
    "open_cache",
    "pack",
    "predict",
    "quickstart",
    "remove_teacher",
    "report",
    "show_recipe",
    "show_views",
    "train_student",
    "train_teacher",
]

# Where a name lives: `module` below deit_pipe, or `module:name` where it has another name there.
_PLACES = {
    "Answers": "stages.training.targets",
    "Batch": "stages.training.proven_batches",
    "BenchFacts": "stages.measuring.bench_words",
    "Cache": "stages.face.cache",
    "CacheDifference": "stages.inspection.diff",
    "CacheEstimate": "stages.measuring.estimate",
    "CachedDistillationTask": "stages.face.timm_task",
    "CachedTeacher": "stages.cache_teacher",
    "CheckDataOptions": "stages.options.data",
    "CheckedData": "stages.check_data",
    "CommandResult": "stages.console.result",
    "ComparedRuns": "stages.compare",
    "DistillationLoss": "stages.training.losses",
    "ExportedStudent": "stages.export",
    "FeaturesFile": "stages.features",
    "InspectedCache": "stages.inspect_cache",
    "InspectedCell": "stages.inspect_cache",
    "InspectedSample": "stages.inspect_cache",
    "ListedModels": "stages.list_models",
    "LossParts": "stages.training.losses",
    "PackedData": "stages.pack",
    "PlannedCost": "stages.measuring.planned_cost",
    "Predictions": "stages.predict",
    "QuickstartFacts": "stages.quickstart",
    "RebuiltIndex": "stages.inspection.made_again",
    "Recipe": "pipeline.recipe",
    "RecipeFacts": "stages.show_recipe",
    "RemovedTeacher": "stages.remove_teacher",
    "RunPage": "stages.report",
    "RunSettings": "stages.training.outcome",
    "ShownViews": "stages.show_views",
    "StudentScores": "stages.answering.scores",
    "TargetWriter": "store.writer",
    "TrainedStudent": "stages.training.outcome",
    "TrainedTeacher": "stages.train_teacher",
    "UpgradedCache": "stages.inspection.made_again",
    "ViewPlan": "pipeline.plan",
    "ZarrCopy": "stages.inspection.made_again",
    "open_cache": "stages.face.cache",
}
_COMMANDS = [
    "bench",
    "cache_teacher",
    "check_data",
    "compare",
    "evaluate",
    "export",
    "features",
    "inspect_cache",
    "list_models",
    "pack",
    "predict",
    "quickstart",
    "remove_teacher",
    "report",
    "show_recipe",
    "show_views",
    "train_student",
    "train_teacher",
]
for _command in _COMMANDS:
    _options = "run_report" if _command == "report" else _command
    _PLACES[_command] = f"stages.{_command}:run"
    _room = "options.use" if _command in ("features", "predict") else "options"
    _PLACES.setdefault("".join(map(str.capitalize, _options.split("_"))) + "Options", f"stages.{_room}.{_options}")


if not TYPE_CHECKING:  # a checker would take every name for one of the face

    def __getattr__(name: str) -> Any:
        """Import a name of the face when it is first asked for."""
        if name not in _PLACES:
            raise AttributeError(f"module 'deit_pipe' has no attribute {name!r}")
        module, _, there = _PLACES[name].partition(":")
        value = getattr(importlib.import_module(f"deit_pipe.{module}"), there or name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class DeitPipeError(Exception):
    """Base of everything that a user can cure; any other exception is a bug and keeps its traceback.

    Its text is laid out in one way: what and where in the first line, what was expected and what was there instead,
    details, and last the command or option that cures it. A text that has lines already is kept as it is.

    Attributes:
        exit_code: what the command line ends with; see README "Exit codes".
        what: what is wrong, and where; one line.
        expected, got: None where the first line says it.
        details: further lines.
        cure: None where there is nothing to be done but to read.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        details: Sequence[str] = (),
        cure: str | None = None,
    ) -> None:
        self.expected, self.got = (None if part is None else str(part) for part in (expected, got))
        self.what, *more = what.split("\n")
        self.details, self.cure = (*more, *details), cure
        # a single argument, so that an error can be sent from one process to another
        super().__init__(lay_out(what, self.expected, self.got, details, cure))

    def to_json(self) -> dict[str, object]:
        """The parts, as JSON values."""
        return {
            "what": self.what,
            "expected": self.expected,
            "got": self.got,
            "details": [line.strip() for line in self.details],
            "cure": self.cure,
            "exit_code": self.exit_code,
        }


def lay_out(what: str, expected: str | None, got: str | None, details: Sequence[str], cure: str | None) -> str:
    """The text of an error: parts under the first line are indented and aligned, the cure stands by itself."""
    lines = [what]
    if expected is not None:
        lines.append(f"  expected  {expected}")
    if got is not None:
        lines.append(f"  got       {got}")
    lines += [f"  {line}" for line in details]
    return "\n".join([*lines, *([cure] if cure is not None else [])])
