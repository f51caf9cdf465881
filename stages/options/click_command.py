"""A click command made from an options class: its parameters, its help in groups, and `--set KEY=VALUE`."""

import dataclasses
import inspect
import math
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.options.fields import CheckedOptions, key, spelling, value_type
from deit_pipe.stages.options.set_values import read_set_values, settable, unknown_option

SET = "set_values"
PLAIN, MORE = (
    "Options",
    "More",
)  # headings of options without a group; of what every command has, where others have one


class OptionsCommand(click.Command):
    """A command whose parameters are the fields of one options class."""

    def __init__(self, name: str, options: type[CheckedOptions], callback: Callable[..., Any]) -> None:
        """Parameters, help and examples from the class; the callback gets every field, and `as_json`."""
        self.options = options
        doc, _, examples = inspect.cleandoc(options.__doc__ or "").partition("Examples:")
        arguments = "".join(
            f"\n\n{item.metadata['metavar'] or item.name.upper()}: {item.metadata['help']}"
            for item in dataclasses.fields(options)
            if item.metadata["argument"]
        )
        super().__init__(
            name,
            params=parameters(options),
            callback=callback,
            help=doc.strip() + arguments,
            epilog="\b\nExamples:" + examples.rstrip() if examples else None,
            context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; then `--set` and what deit-pipe.toml says of its keys become values like all others."""
        as_json = "--json" in args
        try:
            return self._parsed(ctx, args)
        except click.UsageError as error:
            if as_json and not ctx.resilient_parsing:
                from deit_pipe.stages.console.shown import write_json_problem

                write_json_problem(UsageProblem(error.format_message()))
            raise

    def _parsed(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            said = unknown_option(self.options, error.option_name)
            if said is None:
                raise
            ctx.fail(said)
        keys = settable(self.options)
        if not keys:
            return rest
        try:
            given = read_set_values(self.options, ctx.params.pop(SET, ()))
        except UsageProblem as error:
            ctx.fail(str(error))
        for item in keys.values():
            kept = (ctx.default_map or {}).get(item.name)
            ctx.params[item.name] = given.get(item.name, item.default if kept is None else kept)
            ctx.set_parameter_source(item.name, _source(item.name in given, kept))
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options under the headings of their groups, in the order in which the groups first occur."""
        headings = {item.name: item.metadata["group"] or PLAIN for item in dataclasses.fields(self.options)}
        last = MORE if any(heading != PLAIN for heading in headings.values()) else PLAIN
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(headings.get(parameter.name or "", last), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
        self.format_keys(formatter)

    def format_keys(self, formatter: click.HelpFormatter) -> None:
        """What `--set` takes: names, and what they mean where no --print-config says it."""
        keys = settable(self.options)
        if keys and "print_config" in {item.name for item in dataclasses.fields(self.options)}:
            with formatter.section("Keys of --set (--print-config shows their values and meanings)"):
                indent = " " * formatter.current_indent
                names = textwrap.fill(
                    ", ".join(keys),
                    formatter.width,
                    initial_indent=indent,
                    subsequent_indent=indent,
                    break_on_hyphens=False,
                )
                formatter.write(names + "\n")
        elif keys:
            with formatter.section("Keys of --set"):
                formatter.write_dl([(name, item.metadata["help"]) for name, item in keys.items()])


def _source(given: bool, kept: Any) -> click.core.ParameterSource:
    source = click.core.ParameterSource
    return source.COMMANDLINE if given else source.DEFAULT if kept is None else source.DEFAULT_MAP


def parameters(options: type[CheckedOptions]) -> list[click.Parameter]:
    """The click parameters of a class: its own before those it shares with others, then `--set` and `--json`."""
    annotations = typing.get_type_hints(options)
    own = inspect.get_annotations(options)
    fields = [item for item in dataclasses.fields(options) if item.metadata["common"]]
    fields.sort(key=lambda item: item.name not in own)
    found: list[click.Parameter] = [_parameter(item, annotations[item.name]) for item in fields]
    if settable(options):
        found.append(
            click.Option(
                ["--set", SET],
                multiple=True,
                metavar="KEY=VALUE",
                help="Another setting, repeatable; keys below.",
            )
        )
    found.append(click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON on stdout."))
    return found


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


def _click_type(annotation: Any, choices: Sequence[str] | None, low: float | None, high: float | None) -> Any:
    kind = value_type(annotation)
    if choices:
        return _Choice(list(choices))
    if kind in (int, float):
        # the range is shown in the help; what has none is never below minus infinity
        number: Any = _Whole if kind is int else _Real
        return number(-math.inf if low is None else low, high)
    return click.BOOL if kind is bool else _Text()


def _parameter(item: "dataclasses.Field[Any]", annotation: Any) -> click.Parameter:
    """The click parameter of one options field."""
    required = item.default is dataclasses.MISSING
    default = None if required else item.default
    meta = item.metadata
    if annotation == tuple[str, ...]:
        return click.Argument([item.name], required=required, nargs=-1, metavar=meta["metavar"])
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
        return click.Option([f"{name}/--no-{key(item.name)}", item.name], default=default, **settings)
    return click.Option(
        [*meta["flags"], name, item.name],
        default=default,
        type=_click_type(annotation, meta["choices"], meta["minimum"], meta["maximum"]),
        metavar=meta["metavar"],
        **settings,
    )
