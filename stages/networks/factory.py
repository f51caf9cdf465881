"""Networks that are made by somebody's own function, named `package.module:function`: that runs their code."""

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from deit_pipe.stages.console.errors import UsageProblem
from deit_pipe.stages.console.progress import note

TYPED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
FACTORY = "factory"  # how provenance begins that names no weights file


def is_factory(name: str) -> bool:
    """Whether a name is meant as `package.module:function`."""
    return ":" in name and "/" not in name


def factory_module(name: str, num_classes: int) -> nn.Module:
    """Import the module, call the function, and give what it returns; said on stderr, since it runs code.

    Modules of the working directory are found too. The function is called with `num_classes=C` where it has a parameter
    of that name, else without arguments.

    Args:
        name: `package.module:function`.
        num_classes: C.

    Raises:
        UsageProblem: not spelled so, cannot be imported, raises, or returns no network.
    """
    if not TYPED.fullmatch(name):
        raise UsageProblem(
            f"--teacher {name!r} does not name a function",
            expected="package.module:function, such as my_nets:teacher",
            cure="give a function that returns the network, a timm model, or a folder of train-student",
        )
    place, _, called = name.partition(":")
    with _working_directory():
        if os.environ.get("RANK", "0") == "0":
            note(f"--teacher {name}: this runs code of the module {place}")
        function = _function(_imported(name, place), place, called)
        network = _network(name, function, num_classes)
    if not isinstance(network, nn.Module):
        raise UsageProblem(
            f"--teacher {name} returned no network",
            expected="a torch.nn.Module",
            got=type(network).__name__,
            cure=f"let {called} return the network itself",
        )
    return network


@contextmanager
def _working_directory() -> Iterator[None]:
    """While open, modules of the working directory are found, after all others."""
    here = str(Path.cwd())
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _imported(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise _failed(f"the module of --teacher {name} cannot be imported", error) from error


def _function(module: ModuleType, place: str, called: str) -> Callable[..., Any]:
    function = getattr(module, called, None)
    if not callable(function):
        names = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        near = get_close_matches(called, names, n=3, cutoff=0.5)
        raise UsageProblem(
            f"{place} has no function {called}",
            details=[f"nearest: {', '.join(near)}"] if near else [],
            got="no such name" if function is None else type(function).__name__,
            cure="give --teacher package.module:function with a function that returns the network",
        )
    found: Callable[..., Any] = function
    return found


def _network(name: str, function: Callable[..., Any], num_classes: int) -> Any:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some that are written in C
        parameters = {}  # type: ignore[assignment]
    try:
        return function(num_classes=num_classes) if "num_classes" in parameters else function()
    except Exception as error:
        raise _failed(f"--teacher {name} raised an error", error) from error


def _failed(what: str, error: Exception) -> UsageProblem:
    """What somebody's code raised, with the place in it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    last = frames[-1]
    where = [f"{last.filename}, line {last.lineno}"] if last.filename != __file__ else []
    reason = (str(error).strip() or "without a message").splitlines()[0][:160]
    return UsageProblem(
        what,
        details=[f"{type(error).__name__}: {reason}", *where],
        cure="see that it can be imported and called in this environment and folder, with num_classes or without "
        "arguments",
    )
