"""The house is as the design draws it: who imports whom, what is loaded when, who may print."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import connbench
from connbench.commands import COMMANDS
from connbench.report.json import json_document
from connbench.strategies import STRATEGIES
from factories import PLAIN, result_of, round_of, samples_of

ROOT = Path(connbench.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}

LAYERS = (
    {"__main__"},
    {"advise", "reproduce", "serve", "trace"},
    {"commands"},
    {"runner", "report", "planner"},
    {"engine", "analysis", "portmodel"},
    {"host", "results"},
    {"draws"},
    {"linux", "samples", "thresholds"},
    {"model", "interrupts"},
    {"errors", "findings", "release", "strategies", "units"},
    {"safe_text", "wording"},
    {""},  # connbench itself, which has the version
)
"""Packages and modules of the house from the top down; a line may import from those below it."""

FEATURES = {"advise", "reproduce", "serve", "trace"}
"""Folders with a command, its logic and its report: they use the core; the core and each other never import them."""

MEASURING = (
    "engine",
    "draws",
    "strategies",
    "linux",
    "samples",
    "model",
    "findings",
    "errors",
)
HEAVY = {"numpy", "rich", "click", "psutil", "pyroute2"}

PROCESS_EXCEPTIONS = {"connbench.engine.__main__": ["print", "sys.exit"]}
"""stdout is the engine's protocol, and its exit status tells the parent that it failed."""


def tree(module: str) -> ast.Module:
    """The syntax of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def unit(module: str) -> str:
    """The package or module right under `connbench` that a module belongs to."""
    return f"{module}.".split(".")[1]


def imports(module: str) -> Iterator[str]:
    """The modules of connbench that a module imports, wherever in it: in functions and for the type checker too."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module


def modules_of(*units: str) -> list[str]:
    """The modules of these parts of the house."""
    return [module for module in MODULES if unit(module) in units]


def loaded_by(*arguments: str) -> set[str]:
    """The modules a fresh interpreter loads, as it tells itself."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def importing(modules: list[str]) -> set[str]:
    """The modules a fresh interpreter loads for these."""
    loaded = loaded_by("-c", f"import {', '.join(modules)}")
    assert set(modules) <= loaded
    return loaded


def spoken_names(module: str) -> list[str]:
    """What a module calls or touches to end the process or to talk to the terminal."""
    found: list[str] = []
    for node in ast.walk(tree(module)):
        match node:
            case ast.Call(func=ast.Name(id="print" | "exit" | "quit" | "input" as name)):
                found.append(name)
            case ast.Attribute(value=ast.Name(id="sys"), attr="exit" | "stdout" | "stderr" as name):
                found.append(f"sys.{name}")
            case ast.Name(id="SystemExit"):
                found.append("SystemExit")
            case ast.Import(names=names) if any(name.name.split(".")[0] == "click" for name in names):
                found.append("click")
            case ast.ImportFrom(module=str(name)) if name.split(".")[0] == "click":
                found.append("click")
    return found


def test_every_module_has_its_place() -> None:
    """Each package and module belongs to one line of the order, and each line to something that is there."""
    placed = [name for layer in LAYERS for name in layer]
    assert sorted(placed) == sorted({unit(module) for module in MODULES})


def test_no_two_modules_have_the_same_file_name() -> None:
    """A module is found by its file name; only a feature's command and report are found by the feature's folder."""
    stems = [
        path.stem
        for module, path in MODULES.items()
        if path.stem not in {"__init__", "__main__"}
        and not (path.parent.name in FEATURES and path.stem in {"command", "report"})
    ]
    assert [name for name, number in Counter(stems).items() if number > 1] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    """A module imports from its own package and from the lines below it, never from beside or above."""
    height = {name: len(LAYERS) - i for i, layer in enumerate(LAYERS) for name in layer}
    here = unit(module)
    wrong = [name for name in imports(module) if unit(name) != here and height[unit(name)] >= height[here]]
    assert wrong == []


def test_imports_make_no_circle() -> None:
    """No module needs itself, by way of others, within its package either."""
    order = list(TopologicalSorter({module: set(imports(module)) for module in MODULES}).static_order())
    assert len(order) == len(MODULES)


def test_imports_are_absolute() -> None:
    """Every import says where from, which is what the tests above read."""
    relative = [
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_engine_is_used_by_its_doors() -> None:
    """Measuring is another process: others import the parent's side of it, and `serve` its accepting processes."""
    used = {name for module in MODULES if unit(module) != "engine" for name in imports(module)}
    assert used & set(modules_of("engine")) == {f"connbench.engine.{name}" for name in ("acceptors", "launcher")}


@pytest.mark.parametrize("part", MEASURING)
def test_measuring_loads_nothing_heavy(part: str) -> None:
    """The measured process and all that it is made of load the standard library and nothing else."""
    assert importing(modules_of(part)) & HEAVY == set()


def test_report_knows_no_network() -> None:
    """A report is made of a result: none of its modules loads sockets (libraries may, once used) or what measures."""
    loaded = importing(modules_of("report"))
    assert "socket" not in loaded
    assert {unit(name) for name in loaded if name in MODULES} & {"engine", "linux", "runner"} == set()


def test_planning_loads_no_numpy() -> None:
    """Planning forks, which is safe only in a process without numpy's threads; thresholds are read before it."""
    assert importing(modules_of("planner", "thresholds")) & HEAVY == set()


@pytest.mark.parametrize("arguments", [(), ("--version",), *((name, "--help") for name in COMMANDS)], ids=" ".join)
def test_help_is_quick(arguments: tuple[str, ...]) -> None:
    """Asking for help or the version loads none of what a command needs when it runs."""
    loaded = loaded_by("-m", "connbench", *arguments)
    assert "click" in loaded
    assert loaded & (HEAVY - {"click"}) == set()


def test_compare_loads_what_it_compares_with(tmp_path: Path) -> None:
    """It reads files, computes and prints: it loads nothing that plans, measures, predicts or draws, and no feature."""
    file = tmp_path / "result.json"
    file.write_text(json_document(result_of({PLAIN: [round_of(samples_of([10_000] * 20))]})), encoding="utf-8")
    loaded = {name for name in loaded_by("-m", "connbench", "compare", str(file), str(file)) if name in MODULES}
    assert "connbench.report.comparison_report" in loaded
    assert {unit(name) for name in loaded} & {*FEATURES, "engine", "host", "portmodel", "runner"} == set()
    assert not [name for name in loaded if name.startswith(("connbench.report.charts", "connbench.report.html"))]
    assert {name for name in loaded if unit(name) == "planner"} <= {"connbench.planner", "connbench.planner.request"}


SPEAKING = {
    *modules_of("commands", "__main__"),
    *(f"connbench.{name}.command" for name in FEATURES),
}
"""The command line: modules that may print, ask and end the process."""


@pytest.mark.parametrize("module", sorted(set(MODULES) - SPEAKING))
def test_nothing_below_the_command_line_speaks_or_exits(module: str) -> None:
    """Below `commands` nothing prints, ends the process or uses click, but for the engine's answers to its parent."""
    assert spoken_names(module) == PROCESS_EXCEPTIONS.get(module, [])


def test_speaking_is_seen_where_it_is() -> None:
    """The test above knows speech when it sees it: the command line has it."""
    assert {"sys.exit", "click"} <= set(spoken_names("connbench.commands"))


WORDS_OF_OTHER_THINGS = {"random", "range", "window"}
"""A module of Python, an axis of a chart, a parameter: as the key of a mapping they are no strategy."""


def names_of_strategies(module: str) -> list[int]:
    """The lines on which a module writes a strategy's name where it decides or looks up something."""
    found = []
    for node in ast.walk(tree(module)):
        words = set(STRATEGIES)
        match node:
            case ast.Compare(left=left, comparators=others):
                parts = [left, *others]
            case ast.Call(func=ast.Name(id="StrategySpec"), args=parts):
                pass
            case ast.Subscript(slice=part):
                parts, words = [part], words - WORDS_OF_OTHER_THINGS
            case ast.Dict(keys=keys):
                parts, words = [key for key in keys if key], words - WORDS_OF_OTHER_THINGS
            case ast.Set(elts=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                words -= WORDS_OF_OTHER_THINGS
            case _:
                continue
        constants = [one for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant)]
        found += [one.lineno for one in constants if one.value in words]
    return found


ASK_FOR_A_PARAMETER = {"connbench.planner.workload"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"connbench.strategies"} - ASK_FOR_A_PARAMETER))
def test_no_module_asks_for_a_strategy_by_its_name(module: str) -> None:
    """A strategy is a row of `connbench.strategies`: what follows from it is read from its properties."""
    assert names_of_strategies(module) == []
