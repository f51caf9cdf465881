"""The import rule, the size of files, and what must not be imported early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([ROOT / "cli.py", *(p for d in ("pipeline", "stages", "store") for p in (ROOT / d).rglob("*.py"))])

MAY_IMPORT = {
    "cli": {"stages"},
    "stages": {"stages", "pipeline", "store"},
    "pipeline": {"pipeline"},
    "store": {"store"},
}
MUST_NOT_IMPORT = {
    "store": {"torch", "torchvision", "timm", "PIL"},
    "pipeline": {"torchvision", "timm", "zarr", "numcodecs"},
    "cli": {"torch", "timm", "zarr", "numpy", "PIL", "pyarrow"},
}
TORCH_IN_PIPELINE = {"loader.py", "compose.py", "witness.py", "probe.py"}
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "base", "wrapper", "info"}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every imported module, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            assert node.module is not None
            found.add(node.module)
    return found


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "deit_pipe" and len(parts) > 1:
            assert parts[1] in MAY_IMPORT[room(path)], f"{path} imports {module}"
        assert parts[0] not in MUST_NOT_IMPORT.get(room(path), set()), f"{path} imports {module}"
        if room(path) == "pipeline" and parts[0] == "torch":
            assert path.name in TORCH_IN_PIPELINE, f"{path} imports torch"


def module_of(path: Path) -> str:
    """`deit_pipe.stages.report` for stages/report.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["deit_pipe", *(parts[:-1] if parts[-1] == "__init__" else parts)])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or not (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node] & graph.keys()):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def test_the_search_for_circles_finds_them() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module_of(path): imports(path) for path in SOURCES}
    assert sum(len(found & graph.keys()) for found in graph.values()) > 100
    assert circles(graph) == []


# What each room of stages/ may know of the others; commands (the files at its top) may know all, and nobody them.
ROOMS = {
    "console": set(),
    "options": {"console"},
    "machine": {"console"},
    "networks": {"console", "options"},
    "opened": {"console", "options"},
    "teaching": {"console", "machine", "networks", "opened", "options"},
    "training": {"console", "machine", "networks", "opened", "options"},
    "measuring": {"console", "machine", "networks", "opened", "options", "teaching", "training"},
    "inspection": {"console", "machine", "networks", "opened", "options"},
    "exporting": {"console", "networks", "opened", "options"},
    "answering": {"console", "machine", "networks", "opened", "options", "training"},
    "comparing": {"console", "machine", "networks", "opened", "options"},
    "checking": {"console", "machine", "opened", "options"},
    "face": {"console", "machine", "networks", "opened", "options", "training"},
    "pages": {"checking", "comparing", "console", "inspection", "networks", "opened", "options", "training"},
}
MOST_FILES = 20
MOST_LINES = 65


def room_problems(files: dict[tuple[str, ...], set[str]]) -> list[str]:
    """Imports that a room may not make: files by their path below stages/, with the modules they import."""
    found = []
    for parts, modules in files.items():
        if len(parts) == 1:
            continue
        for module in sorted(modules):
            words = module.split(".")
            if words[:2] != ["deit_pipe", "stages"]:
                continue
            other = words[2] if len(words) > 2 and words[2] in ROOMS else "a command"
            if other not in {parts[0], *ROOMS[parts[0]]}:
                found.append(f"{'/'.join(parts)} imports {module}")
    return found


def test_rooms_know_only_what_they_may() -> None:
    files = {path.relative_to(ROOT / "stages").parts: imports(path) for path in SOURCES if room(path) == "stages"}
    assert {parts[0] for parts in files if len(parts) > 1} == set(ROOMS)
    assert room_problems(files) == []


@pytest.mark.parametrize(
    ("place", "module"),
    [
        (("teaching", "gate.py"), "deit_pipe.stages.training.losses"),
        (("training", "losses.py"), "deit_pipe.stages.teaching.gate"),
        (("training", "fit.py"), "deit_pipe.stages.inspection.summary"),
        (("opened", "images.py"), "deit_pipe.stages.cache_teacher"),
        (("networks", "student.py"), "deit_pipe.stages.training.run_folder"),
    ],
)
def test_a_broken_rule_is_found(place: tuple[str, str], module: str) -> None:
    assert room_problems({place: {module, "deit_pipe.stages.console.errors"}}) == [
        f"{'/'.join(place)} imports {module}"
    ]


def test_no_room_is_crowded() -> None:
    folders = {path.parent for path in SOURCES} - {ROOT, ROOT / "stages"}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(path.parent == folder and path.name != "__init__.py" for path in SOURCES)) > MOST_FILES
    }
    assert not crowded


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_LINES, f"{path}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small_and_named_for_one_thing(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 350, f"{path} has {lines} lines"
    assert not set(path.stem.split("_")) & BANNED_NAMES


def test_only_the_plan_makes_random_numbers() -> None:
    """Views are a function of their address: no other file of the pipeline touches a generator."""
    for path in (ROOT / "pipeline").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "random" not in imports(path), path
        assert "np.random" not in text or path.name == "streams.py", path
        assert "manual_seed" not in text, path


@pytest.mark.parametrize("words", [["--help"], ["train-student", "--help"], ["cache-teacher", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom deit_pipe.cli import main\n"
        f"result = CliRunner().invoke(main, {words!r})\nassert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'timm', 'zarr', 'numpy', 'PIL', 'pyarrow', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_top_level_holds_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    agreed = {"pipeline", "stages", "store", "tests", "cli.py", "pyproject.toml", "README.md"}
    extra = {
        "__init__.py",
        "py.typed",
        "LICENSE",
        "CHANGELOG.md",
        ".ci",
        ".github",
        ".gitignore",
        ".pre-commit-config.yaml",
    }
    assert agreed <= top
    assert top <= agreed | extra


def test_packages_in_pyproject_are_those_on_disk() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(["deit_pipe", *path.parent.relative_to(ROOT).parts])
        for path in [ROOT / "__init__.py", *(p for p in SOURCES if p.name == "__init__.py")]
    }
    assert listed == found


def test_files_that_are_no_modules_are_in_the_wheel() -> None:
    """Templates, data and type stubs beside the modules are named in pyproject's package data."""
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    named = {
        path
        for package, patterns in declared.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    assert {"cache.html", "run.html", "page.html", "parts.html", "style.css"} <= {path.name for path in named}
    beside = [path for path in (ROOT / "stages").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [path for path in beside if path.suffix != ".py" and path not in named] == []
