"""Options of `deit-pipe quickstart`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, option


@dataclass(frozen=True, kw_only=True)
class QuickstartOptions(CheckedOptions):
    """Do the whole job on the embedded handwritten digits.

    Trains a small CNN teacher, caches it, trains a tiny DeiT without distillation, with hard and with soft
    distillation, each with several seeds, and inspects the cache. A few minutes on two cores.

    Examples:
      deit-pipe quickstart
      deit-pipe quickstart --out /tmp/try --seeds 1
    """

    out: str = option("./quickstart", "Folder for everything it makes.", metavar="DIR", flags=("-o",))
    seeds: int = option(3, "Students per loss; mean and spread are over these.", minimum=1, maximum=20)
    epochs: int = option(40, "Epochs per student.", minimum=1)
    device: str = option("auto", "auto, cpu, cuda, ...")
