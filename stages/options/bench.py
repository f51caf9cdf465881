"""Options of `deit-pipe bench`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import CheckedOptions, option


@dataclass(frozen=True, kw_only=True)
class BenchOptions(CheckedOptions):
    """Measure this machine in a minute or two, and say who would wait for whom in both stages.

    Views by part and by number of workers, teacher and student on pixels that are there and fed by the loader, target
    reads; from these what both stages take for these images, what packing them would give, and from how many students
    on the cache beats a teacher in every step. Recipe, sizes, batches and presets are those that cache-teacher and
    train-student would choose. Weights are random: they cost the same. Nothing is kept. Under torchrun all processes
    measure at once, and the figures are those of all of them.

    --json has the keys engine, workers, cores, processes, images, recipe, image_size, view (core_seconds by part,
    core_seconds, views_per_second by workers, raw_per_second), teacher and student (model, batch_size, seconds and
    core_seconds of a view alone, per_second alone and fed, limit, line), target_read_seconds and
    target_write_seconds of a view, stage_one and stage_two (views, epochs, seconds; from raw pixels: raw_seconds),
    evaluation_seconds and checkpoint_seconds of stage two, online_seconds,
    break_even_students (null: never), cores_for_student (null: any number is too few), raw_bytes.

    Examples:
      deit-pipe bench
      deit-pipe bench --data imagenet/ --teacher regnety_160 --student deit_small_distilled_patch16_224 --device cuda
      torchrun --nproc-per-node 8 -m deit_pipe.cli bench --data imagenet/ --device cuda
    """

    data: str = option(
        "digits",
        "Images: class folders (or train/ and val/ of them), Parquet, IDX or CIFAR folder; or 'digits'.",
        metavar="D",
    )
    teacher: str = option("regnety_160", "A timm model.", metavar="T")
    student: str | None = option(
        None,
        "A timm model, or custom:WIDTHxDEPTHxHEADS.  [default: as train-student chooses]",
        metavar="M",
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
