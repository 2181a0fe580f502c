"""Run connbench for a test: in this process for its samples, or as the installed command."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from allowed_namespace import NAMESPACE, REASON
from connbench import commands
from connbench.errors import ExitCode
from connbench.interrupts import Interrupts
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Endpoint, Link, Listener, Loop, Placement, Plan, PortRange, StrategySpec
from connbench.planner.planner import choose_loop, why_no_c_loop
from connbench.results.result import Result, StrategyResult
from connbench.runner import run

COMMAND = str(Path(sys.executable).with_name("connbench"))
INSIDE = [sys.executable, str(Path(__file__).with_name("faulty_host.py"))]
LOOP: Loop = choose_loop(None)
"""The loop of the plans that `make_plan` makes; the fixture `each_loop` sets it to each one."""

ADDRESS_SPACE, CPU_SECONDS = 1_000_000_000, 30
"""Bounds of a command: bytes, of which Python and numpy take 0.3 GB, and CPU seconds."""

LOW = 40000
OVER_VETH: dict[str, Any] = {
    "sources": ("198.18.0.1",),
    "targets": (Endpoint("198.19.0.1", LOW - 1),),
    "link": Link.VETH,
}
"""Fields of a plan that crosses a veth pair."""

REACHABLE = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1]]
"""The virtual environment, its base interpreter, and this checkout: often in a home of mode 0700."""

HANG_S = 300
"""The limit for a hang. No test checks how long something takes: on a busy machine that may be long."""

os.environ.pop("GITHUB_ACTIONS", None)  # where GitHub runs the tests, their failures are not the job's
os.environ["CONNBENCH_TESTS"] = str(os.getpid())
MARK = f"CONNBENCH_TESTS={os.getpid()}"

_MISSING = why_no_c_loop()
needs_c_loop = pytest.mark.skipif(
    bool(_MISSING), reason=f"{_MISSING}, which needs a C compiler and Python's headers" if _MISSING else "it is here"
)
needs_port_range = pytest.mark.skipif(
    not is_supported(LOCAL_PORT_RANGE), reason="this kernel has no IP_LOCAL_PORT_RANGE (Linux 6.3)"
)


def spec(name: str, window: int | None = None, retries: int | None = None, *, clipped: bool = False) -> StrategySpec:
    """A strategy with its parameters; those left out are as the command line leaves them."""
    placement = (Placement.CLIPPED if clipped else Placement.INSIDE) if name == "window" else None
    return StrategySpec(name, window, placement, 0 if name == "window" and retries is None else retries)


def make_plan(strategy: StrategySpec, ports: int, connections: int, **changes: Any) -> Plan:  # noqa: ANN401  # any field of Plan
    """A plan over `ports` ports from 40000 on, seed 1."""
    low = changes.pop("low", LOW)
    fields: dict[str, Any] = {
        "strategies": (strategy,),
        "connections": connections,
        "port_range": PortRange(low, low + ports - 1),
        "sources": ("127.9.9.1",),
        "targets": (Endpoint("127.9.9.2", low - 1),),
        "listener": Listener.BACKLOG,
        "namespace": NAMESPACE,
        "seed": 1,
        "loop": LOOP,
    }
    return Plan(**(fields | changes))


def measure(strategy: StrategySpec, ports: int, connections: int, **changes: Any) -> StrategyResult:  # noqa: ANN401  # any field of Plan
    """Run a plan, and return its one strategy's result, of the last phase if it has two."""
    return measure_phases(strategy, ports, connections, **changes)[-1]


def measure_phases(strategy: StrategySpec, ports: int, connections: int, **changes: Any) -> list[StrategyResult]:  # noqa: ANN401  # any field of Plan
    """Run a plan, and return the result of each phase of its one strategy."""
    plan = make_plan(strategy, ports, connections, **changes)
    result = Result(plan, {"kernel": "under test"})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    return result.strategies


def connbench(*arguments: str, inside: tuple[str, ...] = (), **keywords: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401  # any of subprocess.run
    """Run the installed command to its end, inside `faulty_host.py` if there are options for it."""
    return subprocess.run(
        command_line(*arguments, inside=inside), capture_output=True, text=True, timeout=HANG_S, check=False, **keywords
    )


def bounded(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command with bounds on its memory and its time, which hostile files must not reach."""
    limits = ["prlimit", f"--as={ADDRESS_SPACE}", f"--cpu={CPU_SECONDS}"]
    return subprocess.run([*limits, COMMAND, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False)


def in_process(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, in which connbench is loaded already: that takes a fraction of the CPU time.

    For what a command prints and writes. Tests of its start, streams, signals and end run the installed command.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        chdir(cwd or "."),
        patch.dict(os.environ, env or {}),
        patch("connbench.planner.namespaces.best_namespace", lambda: (NAMESPACE, REASON)),  # forks; numpy has threads
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
    ):
        code = commands._run(list(arguments), Interrupts())  # noqa: SLF001  # main() ends the process
    stdout, stderr = (stream.detach().getvalue().decode() for stream in streams)
    return subprocess.CompletedProcess(["connbench", *arguments], code, stdout, stderr)


def invoke(*arguments: object) -> int:
    """Run the command in this process, on its streams; returns the exit code, and raises what is wrong."""
    words = [str(argument) for argument in arguments]
    return commands.cli.main(words, prog_name="connbench", standalone_mode=False, obj=Interrupts()) or ExitCode.OK


def command_line(*arguments: str, inside: tuple[str, ...] = ()) -> list[str]:
    """The command line, inside a stand-in for the host if `inside` has options for it."""
    return [*([*INSIDE, *inside, "--"] if inside else []), COMMAND, *arguments]


def read_terminal(leader: int) -> Iterator[bytes]:
    """The bytes that a command writes to a terminal, piece by piece until it closes it; closes the test's end."""
    with os.fdopen(leader, "rb", buffering=0) as terminal, suppress(OSError):  # EIO: nobody holds the other end
        while piece := terminal.read(65536):
            yield piece


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until a condition holds.

    Raises:
        TimeoutError: It did not before what counts as hanging.
    """
    end = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.01)


def started_here() -> list[int]:
    """Process ids of all that these tests started, and of what those started: a mark in the environment shows them."""
    return [pid for pid in marked(MARK) if pid != os.getpid()]


def marked(mark: str) -> list[int]:
    """Process ids of all that started with this line in the environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in variables:
            found.append(int(entry.name))
    return sorted(found)


def engines() -> list[int]:
    """Process ids of engines and workers, which have the same command line."""
    return [pid for pid in started_here() if b"connbench.engine" in _command_of(pid)]


def _command_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """Process ids of the children of a process, oldest first."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def caught(pid: int) -> frozenset[signal.Signals]:
    """The signals a process has handlers for; none once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return frozenset()
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return frozenset(number for number in signal.Signals if mask & 1 << number - 1)


@contextmanager
def running(*arguments: str, inside: tuple[str, ...] = (), at_least: int = 1000) -> Iterator[subprocess.Popen[str]]:
    """The installed command in the middle of a run: `at_least` connections are made and more follow."""
    process = subprocess.Popen(
        command_line(*arguments, inside=inside), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: connections_of(engine_of(process)) >= at_least, f"{at_least} connections are made")
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def engine_of(process: subprocess.Popen[str]) -> int:
    """Process id of the command's engine; 0 while there is none."""
    return next((pid for pid in children(process.pid) if pid in engines()), 0)


def connections_of(engine: int) -> int:
    """Connections made in the namespace of an engine that has workers."""
    if not engine or not children(engine):
        return 0
    try:
        text = Path(f"/proc/{engine}/net/snmp").read_text(encoding="ascii")
    except OSError:
        return 0
    names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("ActiveOpens")])
