"""The structure of connbench: which module imports which, what a command loads, which modules may print."""

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
    {"advise", "calibrate", "fleet", "inspect", "reproduce", "serve", "trace"},
    {"commands"},
    {"advice", "runner", "report", "planner"},
    {"rounds"},
    {"engine", "analysis", "portmodel"},
    {"host", "results"},
    {"draws"},
    {"path_conditions"},
    {"linux", "samples", "thresholds"},
    {"model", "interrupts"},
    {"errors", "findings", "kernel_release", "strategies", "units"},
    {"safe_text", "wording"},
    {""},  # connbench itself, which has the version
)
"""Packages and modules from the top down; those of a line may import from the lines below it."""

FEATURES = {"advise", "calibrate", "fleet", "inspect", "reproduce", "serve", "trace"}
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
HEAVY = {"numpy", "rich", "click", "pyroute2"}

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
    """The modules of these packages."""
    return [module for module in MODULES if unit(module) in units]


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a new interpreter loads, as -X importtime lists them."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def importing(modules: list[str]) -> set[str]:
    """The modules that a new interpreter loads for these."""
    loaded = loaded_by("-c", f"import {', '.join(modules)}")
    assert set(modules) <= loaded
    return loaded


def uses_of_terminal_or_exit(module: str) -> list[str]:
    """The names that a module uses to end the process, or to print and read on the terminal."""
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
    """Each package and module is in one line of `LAYERS`, and each name there exists."""
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
    """A module imports from its own package and from the lines below it: no other of its line, none above."""
    height = {name: len(LAYERS) - i for i, layer in enumerate(LAYERS) for name in layer}
    here = unit(module)
    wrong = [name for name in imports(module) if unit(name) != here and height[unit(name)] >= height[here]]
    assert wrong == []


def test_imports_make_no_circle() -> None:
    """No module imports itself through others, within its package either."""
    order = list(TopologicalSorter({module: set(imports(module)) for module in MODULES}).static_order())
    assert len(order) == len(MODULES)


def test_imports_are_absolute() -> None:
    """Every import names the whole module, as the tests above expect."""
    relative = [
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_engine_is_used_through_two_modules() -> None:
    """The engine is another process: `runner` imports what starts it, and `serve` its acceptor processes."""
    used = {name for module in MODULES if unit(module) != "engine" for name in imports(module)}
    assert used & set(modules_of("engine")) == {f"connbench.engine.{name}" for name in ("acceptors", "launcher")}


@pytest.mark.parametrize("part", MEASURING)
def test_measuring_loads_nothing_heavy(part: str) -> None:
    """The folders of which the measured process is made load no large library."""
    assert importing(modules_of(part)) & HEAVY == set()


def test_engine_loads_the_standard_library_alone() -> None:
    """The measured process loads no third-party package, not even a small one: each worker process would hold it."""
    dependencies = HEAVY | {"jinja2", "matplotlib", "msgspec", "orjson", "plotly", "plotext", "prometheus_client"}
    assert importing(["connbench.engine.__main__", "connbench.engine.scheduler"]) & dependencies == set()


def test_engine_loads_no_large_modules_in_vain() -> None:
    """Each of its processes would have them in memory: a run of a million connections has fifty."""
    loaded = importing(["connbench.engine.__main__"])
    assert loaded & {"decimal", "statistics", "random", "fractions", "hashlib", "subprocess", "asyncio"} == set()


def test_report_knows_no_network() -> None:
    """A report only reads a result: its modules load no sockets (libraries may, when used), nothing that measures."""
    loaded = importing(modules_of("report"))
    assert "socket" not in loaded
    assert {unit(name) for name in loaded if name in MODULES} & {"engine", "linux", "runner"} == set()


def test_planning_loads_no_numpy() -> None:
    """Planning forks, which is safe only in a process without numpy's threads; thresholds are parsed before it."""
    assert importing(modules_of("planner", "thresholds")) & HEAVY == set()


@pytest.mark.parametrize("arguments", [(), ("--version",), *((name, "--help") for name in COMMANDS)], ids=" ".join)
def test_help_is_quick(arguments: tuple[str, ...]) -> None:
    """Asking for help or the version loads none of what a command needs when it runs."""
    loaded = loaded_by("-m", "connbench", *arguments)
    assert "click" in loaded
    assert loaded & (HEAVY - {"click"}) == set()


def test_compare_loads_only_what_it_needs(tmp_path: Path) -> None:
    """It reads files, computes and prints: it loads nothing that plans, measures, predicts or draws, and no feature."""
    file = tmp_path / "result.json"
    file.write_text(json_document(result_of({PLAIN: [round_of(samples_of([10_000] * 20))]})), encoding="utf-8")
    loaded = {name for name in loaded_by("-m", "connbench", "compare", str(file), str(file)) if name in MODULES}
    assert "connbench.analysis.comparison" in loaded
    assert {unit(name) for name in loaded} & {*FEATURES, "engine", "host", "portmodel", "runner"} == set()
    assert not [name for name in loaded if name.startswith(("connbench.report.charts", "connbench.report.html"))]
    assert {name for name in loaded if unit(name) == "planner"} <= {"connbench.planner", "connbench.planner.request"}


MAY_PRINT = {
    *modules_of("commands", "__main__"),
    *(f"connbench.{name}.command" for name in FEATURES),
}
"""The command line: modules that may print, ask and end the process."""


@pytest.mark.parametrize("module", sorted(set(MODULES) - MAY_PRINT))
def test_nothing_below_the_command_line_prints_or_exits(module: str) -> None:
    """Below `commands` nothing prints, ends the process or uses click, but for the engine's answers to its parent."""
    assert uses_of_terminal_or_exit(module) == PROCESS_EXCEPTIONS.get(module, [])


def test_printing_and_exiting_are_found() -> None:
    """The test above finds them: the command line has both."""
    assert {"sys.exit", "click"} <= set(uses_of_terminal_or_exit("connbench.commands"))


OTHER_MEANINGS = {
    "connbench.advice.snippets": ["random"],  # the module of Python that a snippet imports
    "connbench.analysis.summary": ["bind"],  # the call
    "connbench.commands.options": ["window", "window", "window", "window"],  # the option
    "connbench.planner.sweeps": ["window"],  # the option
    "connbench.planner.workload": ["window"],  # the parameter that a strategy takes
    "connbench.report.benchmarks": ["range"],  # of a figure
    "connbench.report.html.figures": ["range"],  # of an axis
    "connbench.report.parquet": ["window", "window"],  # the column
    "connbench.report.prometheus": ["range"],  # of ports
    "connbench.results.csv_file": ["window", "window"],  # the column
    "connbench.results.file_checks": ["window"],  # the column
    "connbench.thresholds": ["bind"],  # the call
}
"""Where a module writes a word that is a strategy's name, too, and means something else by it."""


def names_of_strategies(module: str) -> list[str]:
    """The strings of a module that are the name of a strategy, in the order of the lines."""
    found = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Constant) and node.value in {*STRATEGIES}]
    return [str(node.value) for node in sorted(found, key=lambda node: node.lineno)]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"connbench.strategies"}))
def test_no_module_asks_for_a_strategy_by_its_name(module: str) -> None:
    """A strategy is a row of `connbench.strategies`: what follows from it is read from its properties."""
    assert names_of_strategies(module) == OTHER_MEANINGS.get(module, [])


def test_only_the_cases_of_the_talk_take_single_rows() -> None:
    """Other modules do not import a row of the table either: they choose strategies by a property."""
    rows = {name for name, value in vars(connbench.strategies).items() if value in STRATEGIES.values()} - {"BASELINE"}
    importing_rows = {
        module
        for module in set(MODULES) - {"connbench.strategies"}
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and rows & {name.name for name in node.names}
    }
    assert importing_rows == {"connbench.reproduce.cases"}
