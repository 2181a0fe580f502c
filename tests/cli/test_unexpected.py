"""What connbench does not expect: a bug in one of its processes, or no memory. One line, its exit code, nothing lost.

A bug is put in by a `sitecustomize`, which Python runs at its start: it replaces a function by one that raises.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from connbench import __version__
from connbench.errors import ExitCode
from run_connbench import COMMAND, HANG_S, connbench, connections_of, engine_of, running, wait_until

SMALL = ("run", "--strategy", "bind", "-n", "8", "--port-range", "40000-40015", "-q")

OF_STRATEGIES = "connbench.linux.sockopts", "is_supported"
"""A function that `connbench strategies` calls."""

BROKEN = """
import importlib.abc, importlib.machinery, sys

class Breaking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            def broken(*arguments, **keywords):
                raise {error}
            setattr(module{owner}, {function!r}, broken)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Breaking())
"""


def broken(folder: Path, module: str, function: str, error: str = "KeyError('p99')") -> dict[str, str]:
    """An environment in which a function, or a method, of a module raises when it is called."""
    owner, _, name = function.rpartition(".")
    text = BROKEN.format(module=module, owner=f".{owner}" if owner else "", function=name, error=error)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """A folder for the hook, away from the results."""
    folder = tmp_path / "hooks"
    folder.mkdir()
    return folder


def assert_told(finished: subprocess.CompletedProcess[str], says: str = "unexpected KeyError: 'p99'") -> None:
    """Exit code 70, and two lines: what it was, and what to report."""
    assert finished.returncode == ExitCode.BUG
    assert "Traceback" not in finished.stderr
    *_, fault, report = finished.stderr.splitlines()
    assert fault.startswith(f"connbench: {says}")
    assert report.startswith("  -> report it ")
    for what in (f"connbench {__version__}", f"Linux {os.uname().release}", "Python 3.", "--debug"):
        assert what in report


@pytest.mark.parametrize(
    ("module", "function", "has_stdout"),
    [
        ("connbench.report.run_report", "strategy_blocks", False),
        ("connbench.report.run_report", "closing_blocks", True),
    ],
    ids=["a block", "the end"],
)
def test_a_bug_in_the_report_loses_no_measurement(
    module: str, function: str, has_stdout: bool, hooks: Path, tmp_path: Path
) -> None:
    """What is printed before it stays, and the file is whole."""
    path = tmp_path / "r.json"
    finished = connbench(*SMALL, "-o", str(path), env=broken(hooks, module, function))
    assert_told(finished)
    assert ("connection attempts: 8 " in finished.stdout) == has_stdout
    [strategy] = json.loads(path.read_text(encoding="utf-8"))["strategies"]
    assert len(strategy["rounds"][0]["samples"]["port"]) == 8


def test_a_bug_in_saving_does_not_keep_the_report_back(hooks: Path, tmp_path: Path) -> None:
    """The other way round."""
    env = broken(hooks, "connbench.report.json", "json_document")
    finished = connbench(*SMALL, "-o", str(tmp_path / "r.json"), env=env)
    assert_told(finished)
    assert "connection attempts: 8 " in finished.stdout


def test_a_bug_while_a_round_runs_keeps_the_round(hooks: Path, tmp_path: Path) -> None:
    """In the command itself, five times a second: the round is ended and saved, marked partial."""
    path = tmp_path / "r.json"
    env = broken(hooks, "connbench.model.plan", "RoundPlan.in_phase")
    finished = connbench("run", "--strategy", "plain", "-o", str(path), env=env)
    assert_told(finished)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["partial"] is True
    assert "unexpected KeyError" in found["strategies"][0]["rounds"][0]["fault"]["message"]
    assert len(found["strategies"][0]["rounds"][0]["samples"]["port"]) >= 1
    assert "partial" in connbench("report", str(path)).stdout


@pytest.mark.parametrize(
    ("module", "function"),
    [
        ("connbench.engine.network", "set_up"),
        ("connbench.engine.scheduler", "Scheduler.count"),
        ("connbench.engine.worker", "Worker.execute"),
    ],
    ids=["the engine's start", "the engine", "a worker"],
)
def test_a_bug_in_another_process_is_reported_by_the_command(module: str, function: str, hooks: Path) -> None:
    """One line with the class, the words and the place of the exception; the traceback with --debug."""
    env = broken(hooks, module, function)
    assert_told(connbench(*SMALL, env=env))
    shown = connbench(*SMALL, "--debug", env=env).stderr
    assert shown.count("Traceback (most recent call last)") == 1
    assert "KeyError: 'p99'" in shown
    assert f"src/{module.replace('.', '/')}" not in shown.splitlines()[-1]


@pytest.mark.parametrize("how", ["before", "behind", "variable"])
def test_debug_prints_the_traceback_too(how: str, hooks: Path) -> None:
    """As a global option, as one of the command, and by the environment."""
    env = broken(hooks, *OF_STRATEGIES)
    words = {"before": ("--debug", "strategies"), "behind": ("strategies", "--debug")}.get(how, ("strategies",))
    finished = connbench(*words, env=env | ({"CONNBENCH_DEBUG": "1"} if how == "variable" else {}))
    assert finished.returncode == ExitCode.BUG
    *trace, fault, _ = finished.stderr.splitlines()
    assert "Traceback (most recent call last):" in trace
    assert fault.startswith("connbench: unexpected KeyError: 'p99'")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("RecursionError('deep')", "unexpected RecursionError: deep (connbench/"),
        ("ValueError('two\\nlines')", "unexpected ValueError: two lines (connbench/"),
        ("AssertionError()", "unexpected AssertionError (connbench/"),
    ],
)
def test_any_exception_is_told_in_one_line(error: str, says: str, hooks: Path) -> None:
    """Whatever its class and words are, with its place."""
    assert_told(connbench("strategies", env=broken(hooks, *OF_STRATEGIES, error)), says)


def test_no_memory_is_no_bug(hooks: Path, tmp_path: Path) -> None:
    """MemoryError in the report: exit code 4, the figures, the remedy; what was measured is saved."""
    path = tmp_path / "r.json"
    env = broken(hooks, "connbench.report.run_report", "strategy_blocks", "MemoryError()")
    finished = connbench(*SMALL, "-o", str(path), env=env)
    assert finished.returncode == ExitCode.ENVIRONMENT
    *_, fault, advice = finished.stderr.splitlines()
    assert fault.startswith("connbench: out of memory: ")
    assert "MB" in fault
    assert advice.startswith("  -> free memory, ")
    assert len(json.loads(path.read_text(encoding="utf-8"))["strategies"][0]["rounds"][0]["samples"]["port"]) == 8


def test_memory_that_runs_out_in_mid_run_keeps_what_was_measured(tmp_path: Path) -> None:
    """RLIMIT_AS, lowered below what the command has: it ends in exit code 4, and what it saved before is whole."""
    path = tmp_path / "r.json"
    ports = ("--port-range", "40000-47999", "-n", "8000")
    with running("run", "--strategy", "bind,plain", *ports, "-o", str(path)) as process:
        wait_until(path.exists, "the first strategy is saved")
        wait_until(lambda: connections_of(engine_of(process)) >= 1000, "the second one connects")
        resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))
        _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == ExitCode.ENVIRONMENT
    assert stderr.splitlines()[-2:] == [
        "connbench: out of memory: RLIMIT_AS is 1 MB",
        "  -> free memory, or raise the cgroup's memory.max or RLIMIT_AS (ulimit -v)",
    ]
    assert "Traceback" not in stderr
    [strategy] = json.loads(path.read_text(encoding="utf-8"))["strategies"]
    assert len(strategy["rounds"][0]["samples"]["port"]) == 8000


@pytest.mark.parametrize("files", [6, 10])
def test_too_few_files_for_a_link_are_reported_in_two_lines(files: int) -> None:
    """The limit and its value, wherever it is met first; no traceback of a library's stands before them."""
    finished = connbench(*SMALL, "--link", "veth", inside=("--nofile", str(files)))
    assert finished.returncode == ExitCode.ENVIRONMENT
    fault, advice = finished.stderr.splitlines()
    assert "RLIMIT_NOFILE" in fault
    assert fault.endswith(f" {files}")
    assert "ulimit" in advice


def test_warnings_of_libraries_are_not_the_users(hooks: Path) -> None:
    """A RuntimeWarning, a DeprecationWarning and an exception in __del__ are printed nowhere."""
    (hooks / "sitecustomize.py").write_text(
        "import atexit, sys, warnings\n"
        "class Dying:\n"
        "    def __del__(self):\n"
        "        raise ValueError('late')\n"
        "def warn():\n"
        "    warnings.warn('overflow', RuntimeWarning)\n"
        "    warnings.warn('old', DeprecationWarning)\n"
        "    Dying()\n"
        "atexit.register(warn)\n",
        encoding="utf-8",
    )
    env = os.environ | {"PYTHONPATH": str(hooks)}
    assert connbench("--version", env=env).stderr == ""
    assert "late" in connbench("--version", env=env | {"CONNBENCH_DEBUG": "1"}).stderr


def test_this_python_runs_the_hooks(hooks: Path) -> None:
    """The tests above are about something: a hook is run where it is put."""
    (hooks / "sitecustomize.py").write_text("print('run')", encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(hooks)}
    assert subprocess.check_output([sys.executable, "-c", ""], env=env, text=True) == "run\n"


def test_a_bug_in_an_accepting_process_is_reported(hooks: Path) -> None:
    """In one line with its place, and by the exit code of a bug; the other processes would go on."""
    env = broken(hooks, "connbench.engine.acceptors", "Acceptor.run")
    finished = connbench("serve", "--port", "0", "--processes", "1", env=env)
    assert finished.returncode == ExitCode.BUG
    assert "Traceback" not in finished.stderr
    assert ": unexpected KeyError: 'p99' (connbench/engine/acceptors.py, line " in finished.stderr


UNLOADABLE = """
import sys

class Unloadable:
    def find_spec(self, name, path=None, target=None):
        if name in {modules!r}:
            raise {error}

sys.meta_path.insert(0, Unloadable())
"""


@pytest.mark.parametrize(
    ("modules", "error", "code", "says"),
    [
        (("connbench.commands",), "KeyError('p99')", ExitCode.BUG, "unexpected KeyError: 'p99'"),
        (("connbench.commands",), "MemoryError", ExitCode.ENVIRONMENT, "out of memory"),
        (("connbench.commands",), "OSError(24, 'Too many open files')", ExitCode.ENVIRONMENT, "RLIMIT_NOFILE is "),
        (
            ("connbench.interrupts", "connbench.linux.faults"),
            "MemoryError",
            ExitCode.ENVIRONMENT,
            "it cannot be loaded: MemoryError",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told(
    modules: tuple[str, ...], error: str, code: ExitCode, says: str, hooks: Path
) -> None:
    """Before anything of the command line is there: Python would end with 1, which a --fail-if means."""
    (hooks / "sitecustomize.py").write_text(UNLOADABLE.format(modules=modules, error=error), encoding="utf-8")
    done = connbench("--version", env=os.environ | {"PYTHONPATH": str(hooks)})
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("connbench: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_hardly_any_address_space() -> None:
    """With 20 MB Python starts, and not all of connbench can be loaded."""
    limit = 20 << 20

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [COMMAND, "strategies"], capture_output=True, text=True, preexec_fn=confine, timeout=HANG_S, check=False
    )
    if "<built-in function compile> returned NULL" in done.stderr:
        pytest.skip("this Python's own compile() fails without an exception: CPython 3.13.0 does")
    assert done.returncode == ExitCode.ENVIRONMENT
    assert done.stderr.startswith("connbench: ")
    assert len(done.stderr.splitlines()) == 2
