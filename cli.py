"""The command line: parse, dispatch to a stage, print its result, turn errors into exit codes.

Nothing heavy is imported before a command runs: a command's options come from a light dataclass in
`stages/options`, and its stage is imported only when it is called.
"""

import dataclasses
import importlib
import inspect
import json
import math
import os
import sys
import tomllib
import typing
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


# In the order in which a newcomer needs them.
COMMANDS: dict[str, Command] = {
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
    "inspect-cache": Command(
        "options.inspect_cache:InspectCacheOptions", "inspect_cache:run", "Show and prove what is in a cache."
    ),
    "train-teacher": Command(
        "options.train_teacher:TrainTeacherOptions",
        "train_teacher:run",
        "Fine-tune a CNN teacher on your classes.",
    ),
    "evaluate": Command(
        "options.evaluate:EvaluateOptions", "evaluate:run", "Accuracy of a trained student's heads."
    ),
    "report": Command(
        "options.run_report:RunReportOptions", "report:run", "A page about a training run, or two."
    ),
    "list-teachers": Command(
        "options.list_models:ListTeachersOptions",
        "list_models:run_teachers",
        "Models that can teach: size, cost, weights.",
    ),
    "list-students": Command(
        "options.list_models:ListStudentsOptions",
        "list_models:run_students",
        "Models that can learn: size, cost, weights.",
    ),
    "show-recipe": Command(
        "options.show_recipe:ShowRecipeOptions", "show_recipe:run", "Every number of a view recipe."
    ),
    "show-views": Command(
        "options.show_views:ShowViewsOptions", "show_views:run", "A picture of the views that are trained on."
    ),
    "export": Command(
        "options.export:ExportOptions", "export:run", "Write a student as a timm or ONNX file."
    ),
    "pack": Command("options.pack:PackOptions", "pack:run", "Copy images into one Arrow file per split."),
    "remove-teacher": Command(
        "options.remove_teacher:RemoveTeacherOptions",
        "remove_teacher:run",
        "Free one teacher's space in a cache.",
    ),
}


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
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=2, cutoff=0.4)
            ctx.fail(f"no command {args[0]!r}" + (f"; nearest: {', '.join(near)}" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table, without importing their options."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


def _resolve(spec: str) -> Any:
    module, name = spec.split(":")
    return getattr(importlib.import_module(f"deit_pipe.stages.{module}"), name)


class _AsTyped:
    """A value as it was typed, a number where it reads as one: the options class judges it, for every caller alike."""

    number: Callable[[str], Any] = str

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.number(value) if isinstance(value, str) else value
        except ValueError:
            return value


class _Choice(_AsTyped, click.Choice[str]):
    pass


class _Text(_AsTyped, click.types.StringParamType):
    pass


class _Whole(_AsTyped, click.IntRange):
    number = int


class _Real(_AsTyped, click.FloatRange):
    number = float


def _click_type(annotation: Any, metadata: Any) -> Any:
    from deit_pipe.stages.options.fields import value_type

    kind = value_type(annotation)
    if metadata.get("choices"):
        return _Choice(list(metadata["choices"]))
    if kind in (int, float):
        # the range is shown in the help; what has none is never below minus infinity
        low = metadata.get("minimum")
        number: Any = _Whole if kind is int else _Real
        return number(-math.inf if low is None else low, metadata.get("maximum"))
    return click.BOOL if kind is bool else _Text()


def _parameter(item: dataclasses.Field[Any], annotation: Any) -> click.Parameter:
    """The click parameter of one options field."""
    from deit_pipe.stages.options.fields import spelling, value_type

    required = item.default is dataclasses.MISSING
    default = None if required else item.default
    meta = item.metadata
    if meta["argument"]:
        return click.Argument([item.name], required=required, default=default, metavar=meta["metavar"])
    name = spelling(item.name)
    settings: dict[str, Any] = {
        "help": meta["help"],
        "required": required,
        "show_default": default not in (None, False, ""),
    }
    if value_type(annotation) is bool:
        if default is False:  # a switch
            return click.Option([name, item.name, *meta["flags"]], is_flag=True, default=False, **settings)
        settings["show_default"] = False if default is None else "on"
        switch = f"{name}/--no-{name.removeprefix('--')}"
        return click.Option([switch, item.name], default=default, **settings)
    return click.Option(
        [*meta["flags"], name, item.name],
        default=default,
        type=_click_type(annotation, meta),
        metavar=meta["metavar"],
        **settings,
    )


def build_command(name: str, command: Command) -> click.Command:
    """The click command of one options class."""
    options_class = _resolve(command.options)
    annotations = typing.get_type_hints(options_class)
    # a command's own options before those that it shares with others
    own = inspect.get_annotations(options_class)
    fields = sorted(dataclasses.fields(options_class), key=lambda item: item.name not in own)
    params: list[click.Parameter] = [_parameter(item, annotations[item.name]) for item in fields]
    params.append(
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON on stdout.")
    )

    def callback(as_json: bool, **values: Any) -> None:
        sys.exit(call(lambda: _resolve(command.run)(options_class(**values)), as_json))

    doc, _, examples = inspect.cleandoc(options_class.__doc__ or "").partition("Examples:")
    arguments = "".join(
        f"\n\n{item.metadata['metavar'] or item.name.upper()}: {item.metadata['help']}"
        for item in fields
        if item.metadata["argument"]
    )
    return click.Command(
        name,
        params=params,
        callback=callback,
        help=doc.strip() + arguments,
        epilog="\b\nExamples:" + examples.rstrip() if examples else None,
        context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    )


def call(run: Callable[[], Any], as_json: bool) -> int:
    """Run a stage, print its result; the exit code. Errors that a user can cure are messages, others tracebacks."""
    try:
        result = run()
    except KeyboardInterrupt:
        click.echo("\ninterrupted; run the same command again to go on from here", err=True)
        return INTERRUPTED
    except DeitPipeError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    if os.environ.get("RANK", "0") != "0":
        return int(result.exit_code)  # of several processes the first one speaks
    if as_json:
        click.echo(json.dumps(result.data, indent=2, sort_keys=False, allow_nan=False))
    elif isinstance(result.text, str):
        click.echo(result.text)
    else:
        from rich.console import Console

        console = Console(soft_wrap=not sys.stdout.isatty())
        console.print(result.text)
    return int(result.exit_code)


def read_config(path: Path, *, must_exist: bool) -> dict[str, dict[str, Any]]:
    """Defaults per command from a TOML file: a table per command, keys as the options are spelled.

    Raises:
        click.UsageError: no such file, not TOML, or a table or key that no command knows.
    """
    if not path.exists():
        if must_exist:
            raise click.UsageError(f"no file {path}")
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{path} is not TOML: {error}") from error
    defaults: dict[str, dict[str, Any]] = {}
    for table, values in tables.items():
        if table not in COMMANDS or not isinstance(values, dict):
            raise click.UsageError(f"{path}: [{table}] is not a command; commands: {', '.join(COMMANDS)}")
        known = {item.name for item in dataclasses.fields(_resolve(COMMANDS[table].options))}
        for key in values:
            if key.replace("-", "_") not in known:
                near = get_close_matches(key.replace("-", "_"), known, n=1)
                hint = f"; nearest: {near[0].replace('_', '-')}" if near else ""
                raise click.UsageError(f"{path}: [{table}] has no option {key!r}{hint}")
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


@click.group(
    cls=CommandGroup,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog=f"Defaults can be kept in ./{CONFIG_FILE}, a table per command. "
    'Completion: add eval "$(_DEIT_PIPE_COMPLETE=bash_source deit-pipe)" to ~/.bashrc (zsh, fish likewise). '
    "Exit codes: 0 ok, 2 usage, 3 missing or incomplete, 4 mismatch, 5 corrupt, 6 bad image, 7 diverged, "
    "130 interrupted, 143 terminated.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version,
              help="Show versions of deit-pipe and its libraries.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help=f"Defaults file instead of ./{CONFIG_FILE}.")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Run the teacher once; train every DeiT student from its cached answers, on exactly the same views."""
    # Threads of torch that wait by spinning starve the data workers on the same cores, and each other on a machine
    # that is busy: a small convolution ran 3 x slower. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    ctx.default_map = read_config(config or Path(CONFIG_FILE), must_exist=config is not None)


if __name__ == "__main__":
    main()
