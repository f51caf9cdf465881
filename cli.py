"""The command line: parse, dispatch to a stage, print its result, turn errors into exit codes.

Nothing heavy is imported before a command runs: a command's options come from a light dataclass in
`stages/options`, and its stage is imported only when it is called.
"""

import importlib
import os
import sys
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import click

from deit_pipe import DeitPipeError

CONFIG_FILE = "deit-pipe.toml"
INTERRUPTED = 130


class Command(NamedTuple):
    """Where a command lives: `options` and `run` are `module:name` below `deit_pipe.stages`."""

    options: str
    run: str
    summary: str


# Under their headings, each in the order in which a newcomer needs them.
GROUPS: dict[str, dict[str, Command]] = {
    "The job": {
        "quickstart": Command(
            "options.quickstart:QuickstartOptions",
            "quickstart:run",
            "The whole job on embedded data, in minutes.",
        ),
        "cache-teacher": Command(
            "options.cache_teacher:CacheTeacherOptions",
            "cache_teacher:run",
            "Stage one: run the teacher once, write its answers to a cache.",
        ),
        "train-student": Command(
            "options.train_student:TrainStudentOptions",
            "train_student:run",
            "Stage two: train a DeiT student from a cache, on the same views.",
        ),
    },
    "Look and prove": {
        "check-data": Command(
            "options.data:CheckDataOptions",
            "check_data:run",
            "What is in your images, and what is wrong with them.",
        ),
        "inspect-cache": Command(
            "options.inspect_cache:InspectCacheOptions",
            "inspect_cache:run",
            "Show and prove what is in a cache.",
        ),
        "bench": Command(
            "options.bench:BenchOptions", "bench:run", "What this machine can do: who waits for whom, cost."
        ),
        "report": Command("options.run_report:RunReportOptions", "report:run", "A page about a training run, or two."),
        "compare": Command(
            "options.compare:CompareOptions", "compare:run", "Finished runs in one table: spread, paired differences."
        ),
        "show-views": Command(
            "options.show_views:ShowViewsOptions",
            "show_views:run",
            "A picture of the views that are trained on.",
        ),
    },
    "Use a student": {
        "predict": Command("options.use.predict:PredictOptions", "predict:run", "What a student says of images."),
        "features": Command(
            "options.use.features:FeaturesOptions", "features:run", "What a student sees in images, as vectors."
        ),
        "evaluate": Command(
            "options.evaluate:EvaluateOptions", "evaluate:run", "Accuracy of a trained student's heads."
        ),
        "export": Command(
            "options.export:ExportOptions", "export:run", "Write a student for timm, transformers or ONNX."
        ),
    },
    "Models and recipes": {
        "train-teacher": Command(
            "options.train_teacher:TrainTeacherOptions",
            "train_teacher:run",
            "Fine-tune a CNN teacher on your classes.",
        ),
        "list-models": Command(
            "options.list_models:ListModelsOptions",
            "list_models:run",
            "Models that can teach or learn: size, cost, weights.",
        ),
        "show-recipe": Command(
            "options.show_recipe:ShowRecipeOptions", "show_recipe:run", "Every number of a view recipe."
        ),
    },
    "Upkeep": {
        "pack": Command("options.pack:PackOptions", "pack:run", "Copy images into one Arrow file per split."),
        "remove-teacher": Command(
            "options.remove_teacher:RemoveTeacherOptions",
            "remove_teacher:run",
            "Free one teacher's space in a cache.",
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
# Commands that are gone -> what to type now.
RENAMED = {"list-teachers": "list-models --role teacher", "list-students": "list-models --role student"}


class CommandGroup(click.Group):
    """Commands in the table's order; each is built from its options class when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Build the command; None if there is no such one."""
        return build_command(cmd_name, COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest commands where click would only say that there is none."""
        if args and args[0] in RENAMED:
            ctx.fail(f"no command {args[0]!r} any more: use deit-pipe {RENAMED[args[0]]}")
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=2, cutoff=0.4)
            ctx.fail(f"no command {args[0]!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run; what the system refuses before or after a command (help on a full disk) is a message too."""
        from deit_pipe.stages.console.shown import open_streams, write_problem
        from deit_pipe.stages.console.system_errors import as_problem

        open_streams()
        try:
            return super().main(*args, **more)
        except OSError as error:
            problem = as_problem(error)
            if problem is None:
                raise
            sys.exit(write_problem(problem, as_json=False))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table, group by group, without importing their options."""
        width = max(map(len, COMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:<{width}}", command.summary) for name, command in commands.items()])


def _resolve(spec: str) -> Any:
    module, name = spec.split(":")
    return getattr(importlib.import_module(f"deit_pipe.stages.{module}"), name)


def build_command(name: str, command: Command) -> click.Command:
    """The click command of one options class."""
    from deit_pipe.stages.options.click_command import OptionsCommand

    options_class = _resolve(command.options)

    def callback(as_json: bool, **values: Any) -> None:
        say_defaults(click.get_current_context())
        sys.exit(call(lambda: _resolve(command.run)(options_class(**values)), as_json))

    return OptionsCommand(name, options_class, callback)


def say_defaults(ctx: click.Context) -> None:
    """Name, on stderr, the options whose values came from the defaults file."""
    taken = [
        name.replace("_", "-")
        for name in ctx.default_map or {}
        if ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
    ]
    if taken and os.environ.get("RANK", "0") == "0":
        from deit_pipe.stages.console.shown import tell

        tell(f"note: from {ctx.meta[CONFIG_FILE]}: {', '.join(taken)}")


def call(run: Callable[[], Any], as_json: bool) -> int:
    """Run a stage, print its result; the exit code.

    Errors that a user can cure, and those of the system, are messages; others are bugs and keep their traceback.
    """
    from deit_pipe.stages.console.shown import tell, write_problem, write_result
    from deit_pipe.stages.console.system_errors import as_problem

    first = os.environ.get("RANK", "0") == "0"  # of several processes the first one speaks
    try:
        result = run()
    except KeyboardInterrupt:
        tell("\ninterrupted; run the same command again to go on from here")
        return INTERRUPTED
    except Exception as error:
        problem = error if isinstance(error, DeitPipeError) else as_problem(error)
        if problem is None:
            raise
        return write_problem(problem, as_json=as_json and first)
    return write_result(result, as_json=as_json) if first else int(result.exit_code)


def read_config(path: Path, *, must_exist: bool) -> dict[str, dict[str, Any]]:
    """Defaults per command from a TOML file: a table per command, keys as the options are spelled.

    Raises:
        click.UsageError: no such file, not TOML, or a table or key that no command knows.
    """
    if not path.exists():
        if must_exist:
            raise click.UsageError(f"no file {path}")
        return {}
    from deit_pipe.stages.options.set_values import unknown_table_key

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{path} is not TOML: {error}") from error
    defaults: dict[str, dict[str, Any]] = {}
    for table, values in tables.items():
        if table in RENAMED:
            raise click.UsageError(f"{path}: [{table}] is no command any more: it is {RENAMED[table]} now")
        if table not in COMMANDS or not isinstance(values, dict):
            raise click.UsageError(f"{path}: [{table}] is not a command; commands: {', '.join(COMMANDS)}")
        for key in values:
            problem = unknown_table_key(_resolve(COMMANDS[table].options), key)
            if problem is not None:
                raise click.UsageError(f"{path}: [{table}] {problem}")
        defaults[table] = {key.replace("-", "_"): value for key, value in values.items()}
    return defaults


def print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """deit-pipe's version and those of the libraries that can change pixels, bytes or weights."""
    if not value or ctx.resilient_parsing:
        return
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from deit_pipe import __version__

    click.echo(f"deit-pipe {__version__}  (Python {platform.python_version()}, {platform.platform()})")
    names = ["torch", "torchvision", "timm", "numpy", "Pillow", "simplejpeg", "zarr", "numcodecs", "pyarrow"]
    for name in names:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        click.echo(f"  {name:<12}{found}")
    from deit_pipe.stages.machine.engine_words import engine_words

    click.echo(f"  {'views by':<12}{engine_words()}")
    ctx.exit()


def check_platform(platform: str) -> None:
    """Say it at once where caches could be written by two programs at the same time.

    Raises:
        click.UsageError: no POSIX file locks.
    """
    if platform == "win32":
        raise click.UsageError(
            "deit-pipe needs POSIX file locks, which Windows does not have\nrun it in WSL: https://aka.ms/wsl"
        )


@click.group(
    cls=CommandGroup,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog=f"Defaults can be kept in ./{CONFIG_FILE}, a table per command. "
    'Completion: add eval "$(_DEIT_PIPE_COMPLETE=bash_source deit-pipe)" to ~/.bashrc (zsh, fish likewise). '
    "Exit codes: 0 ok, 2 usage, 3 missing or incomplete, 4 mismatch, 5 corrupt, 6 bad image, 7 diverged, "
    "130 interrupted, 143 terminated.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show versions of deit-pipe and its libraries.",
)
@click.option("--config", type=click.Path(path_type=Path), help=f"Defaults file instead of ./{CONFIG_FILE}.")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Run the teacher once; train every DeiT student from its cached answers, on exactly the same views."""
    check_platform(sys.platform)
    # Threads of torch that wait by spinning starve the data workers on the same cores, and each other on a machine
    # that is busy: a small convolution ran 3 x slower. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    ctx.default_map = read_config(config or Path(CONFIG_FILE), must_exist=config is not None)
    ctx.meta[CONFIG_FILE] = config or f"./{CONFIG_FILE}"


if __name__ == "__main__":
    main()
