"""Options of `deit-pipe remove-teacher`."""

from dataclasses import dataclass

from deit_pipe.stages.options.fields import REQUIRED, CheckedOptions, argument, option


@dataclass(frozen=True, kw_only=True)
class RemoveTeacherOptions(CheckedOptions):
    """Remove one teacher's targets from a cache and free their space; the views and other teachers stay.

    There is no way back: the teacher has to run again. Exit code 3: no such cache or teacher, or it is
    being written.

    Examples:
      deit-pipe remove-teacher resnet18.a1_in1k
      deit-pipe remove-teacher second --cache s3://bucket/cache
    """

    name: str = argument(REQUIRED, "The teacher's name in the cache, as inspect-cache shows it.", metavar="NAME")
    cache: str = option("./teacher-cache", "The cache: a folder, or a URL.")
