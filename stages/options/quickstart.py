"""Options of `deit-pipe quickstart`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, option


@dataclass(frozen=True, kw_only=True)
class QuickstartOptions(CheckedOptions):
    """Do the whole job on the embedded handwritten digits, of which 50 keep their label.

    For every seed: chooses the 50, trains a small CNN teacher on them, caches its answers to them and to all images,
    and trains a tiny DeiT on the labels alone, distilled on the same images, distilled on all images, and on all true
    labels; with equally many steps each. Then table, picture and page. About four minutes on two cores.

    --json has the keys teacher, steps, labels, students (row, loss, head, mean, sd, runs), gain and gain_same_images
    (mean, low, high, pairs; of the head that counts), cache, out, predictions, report.

    Examples:
      deit-pipe quickstart
      deit-pipe quickstart --out /tmp/try --seeds 1
    """

    out: str = option("./quickstart", "Folder for everything it makes.", metavar="DIR", flags=("-o",))
    seeds: int = option(3, "Choices of labels; mean and spread are over these.", minimum=1, maximum=20)
    seed: int = option(0, "The first of them.", minimum=0, maximum=2**31)
    epochs: int = option(22, "Epochs of all images; students of fewer images make as many steps.", minimum=2)
    device: str = option("auto", "auto, cpu, cuda, ...")
