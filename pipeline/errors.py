"""What can go wrong between image files and views.

Every class carries the exit code the command line ends with. A message says what and where in its first line,
then what was expected and found, then the cure.
"""

from __future__ import annotations

from deit_pipe import DeitPipeError


class PipelineError(DeitPipeError):
    """Base of what goes wrong between image files and views; workers hand these over as values."""


class RecipeError(PipelineError):
    """A recipe that does not exist, cannot be read or has impossible numbers."""

    exit_code = 2


class PlanError(PipelineError):
    """Seed, epoch or batch sizes that the plan cannot serve."""

    exit_code = 2


class ChoiceError(PipelineError):
    """A choice of images that is out of range, or that this data has no use for."""

    exit_code = 2


class DataAmbiguous(PipelineError):
    """Data that can be understood in more than one way: the message lists them and names what decides."""

    exit_code = 2


class DataMissing(PipelineError):
    """No samples where they were looked for."""

    exit_code = 3


class ClassMismatch(PipelineError):
    """Two splits, or two files of one, whose labels do not mean the same classes."""

    exit_code = 4


class ViewChanged(PipelineError):
    """A view that is not the one its worker fingerprinted."""

    exit_code = 4


class DataCorrupt(PipelineError):
    """A data set file whose own header does not agree with its content."""

    exit_code = 5


class BadImage(PipelineError):
    """An image that cannot be decoded. Views are never made from a neighbour instead."""

    exit_code = 6


class WorkerDied(PipelineError):
    """A loader process ended without an answer."""

    exit_code = 1


class EngineError(PipelineError):
    """A view engine asked for by name that does not exist or cannot work here."""

    exit_code = 2
