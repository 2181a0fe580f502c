"""Many handshakes outstanding at once, with real sockets: over a path of some ms, and over the loopback."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connbench import samples as memory
from connbench.draws import Draws
from connbench.engine.task import Reason, WorkerTask, counters_of_client
from connbench.engine.worker import module_of
from connbench.errors import RunFault
from connbench.interrupts import Interrupts
from connbench.model import Churn, Endpoint, Listener, Load, Loop, Namespace, RoundPlan, StrategySpec
from connbench.report.json import json_document
from connbench.results.json_file import read_json
from connbench.results.result import Result, Samples, StrategyResult
from connbench.runner import run
from connbench.samples import GIVEN_UP, TIMED_OUT
from run_connbench import HANG_S, LOW, connbench, make_plan, measure, measure_phases, needs_port_range, spec, wait_until
from tun_path import FAR, LISTENING, NEAR

TESTS = Path(__file__).parents[1]
DELAY_MS = 20
CLOSED, SILENT = LISTENING + 1, LISTENING + 2
SYN_SENT = "02"
"""TCP_SYN_SENT (include/net/tcp_states.h), as /proc/net/tcp has it."""

pytestmark = pytest.mark.usefixtures("each_loop")

needs_tun = pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="this machine has no TUN")


def in_flight(name: str, number: int, **load: Any) -> StrategySpec:  # noqa: ANN401  # any field of Load
    """A strategy with so many handshakes in flight."""
    return replace(spec(name), load=Load(in_flight=number, **load))


def on_path(
    *command: str, folder: Path, delay_ms: int = DELAY_MS
) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    """Run a command at one end of the path; returns how it ended, and what the path saw."""
    report = folder / "path.json"
    options = ("--delay", str(delay_ms), "--silent", str(SILENT), "--report", str(report))
    line = [sys.executable, str(TESTS / "tun_path.py"), *options, *command]
    done = subprocess.run(line, capture_output=True, text=True, timeout=HANG_S, check=False)
    return done, json.loads(report.read_text(encoding="ascii")) if report.exists() else {}


def measured_on_path(
    strategy: StrategySpec,
    connections: int,
    ports: tuple[int, ...],
    folder: Path,
    timeout: float = 60.0,
    local_ports: int = 1000,
) -> tuple[StrategyResult, dict[str, int]]:
    """Measure a strategy over the path, to ports at its other end; returns the last phase, and what the path saw."""
    plan = make_plan(
        strategy,
        local_ports,
        connections,
        sources=(NEAR,),
        targets=tuple(Endpoint(FAR, port) for port in ports),
        listener=Listener.EXTERNAL,
        namespace=Namespace.HOST,
        timeout=timeout,
    )
    told = json.dumps(RoundPlan(plan, strategy, 1).to_dict())
    done, seen = on_path(sys.executable, str(TESTS / "measured_plan.py"), told, folder=folder)
    assert done.returncode == 0, done.stderr
    return read_json(done.stdout.encode(), "stdout").strategies[-1], seen


@needs_tun
@pytest.mark.parametrize(("number", "delay_ms"), [(1, 20), (8, 100), (1000, 500)])
def test_no_more_are_outstanding_than_were_asked_for(
    number: int, delay_ms: int, each_loop: Loop, tmp_path: Path
) -> None:
    """The path sees N at once, never more, where there are as many attempts; all of them become connections.

    The delay is long enough that a busy machine, too, sends so many SYNs before the first answer.
    """
    command = ("run", "--target", f"{FAR}:{LISTENING}", "--allow-remote", "--strategy", "bind", "-n", "40")
    saved = tmp_path / "r.json"
    done, seen = on_path(
        str(Path(sys.executable).with_name("connbench")),
        *command,
        "--in-flight",
        str(number),
        "--loop",
        each_loop.value,
        "-o",
        str(saved),
        folder=tmp_path,
        delay_ms=delay_ms,
    )
    assert done.returncode == 0, done.stderr
    assert f"bind, {number:,} in flight: " in done.stdout
    assert seen["most_outstanding"] == min(number, 40)
    [found] = read_json(saved.read_bytes(), "r.json").strategies
    samples = found.samples
    assert not samples.failed.any()
    assert found.rounds[0].report.established == 40
    # The path's promise, which no machine is too slow for; the SYN is sent before connect() returns.
    assert (samples.connect_ns + samples.handshake_ns).min() >= delay_ms * 1_000_000
    assert (samples.acquire_ns >= samples.prepare_ns + samples.connect_ns + samples.handshake_ns).all()


@needs_tun
def test_a_refused_handshake_has_its_errno(tmp_path: Path) -> None:
    """Half of the attempts go to a port where nobody listens: their RST comes over the path, after connect()."""
    found, _ = measured_on_path(in_flight("bind", 6), 20, (LISTENING, CLOSED), tmp_path)
    samples = found.samples
    assert samples.errno[samples.target == 0].tolist() == [0] * 10
    assert samples.errno[samples.target == 1].tolist() == [errno.ECONNREFUSED] * 10
    assert (samples.handshake_ns > 0).all()
    assert (found.is_partial, found.rounds[0].report.held) == (False, 10)


@needs_tun
def test_timeouts_in_a_row_end_the_run(tmp_path: Path) -> None:
    """Nobody answers: after five time-outs the run ends as it does with one after the other; the rest is unfinished."""
    found, _ = measured_on_path(in_flight("bind", 4), 20, (SILENT,), tmp_path, timeout=0.1)
    [measured] = found.rounds
    assert measured.samples.errno.tolist() == [TIMED_OUT] * 5
    assert isinstance(measured.fault, RunFault)
    assert measured.fault.message.startswith("5 handshakes in a row took longer than 0.1 s, the last at attempt 5")
    assert measured.report.held == 0


@needs_tun
def test_lost_syns_between_answers_end_nothing(tmp_path: Path) -> None:
    """SYNs that get lost lie close together, and time out together, while the target answers others."""
    found, _ = measured_on_path(in_flight("bind", 12), 24, (LISTENING, SILENT), tmp_path, timeout=2.0)
    samples = found.samples
    assert not found.is_partial
    assert samples.errno[samples.target == 0].tolist() == [0] * 12
    assert samples.errno[samples.target == 1].tolist() == [TIMED_OUT] * 12


@needs_tun
def test_a_replacement_waits_for_the_handshake_of_what_it_replaces(tmp_path: Path) -> None:
    """Of four connections one is soon drawn again while its own handshake is outstanding; no port is lost with it."""
    churning = in_flight("random", 3, churn=Churn(40))
    churned, seen = measured_on_path(churning, 4, (LISTENING,), tmp_path, local_ports=4)
    assert churned.samples.errno.tolist() == [0] * 40
    assert churned.rounds[0].report.established == 4
    assert seen["most_outstanding"] <= 3


@needs_tun
def test_giving_up_counts_the_handshake(tmp_path: Path) -> None:
    """A limit below a round trip: no attempt is in time, whatever the search takes."""
    found, _ = measured_on_path(in_flight("bind", 4, give_up_ms=DELAY_MS / 2), 20, (LISTENING,), tmp_path)
    [measured] = found.rounds
    assert set(measured.samples.errno.tolist()) <= {TIMED_OUT, GIVEN_UP}
    assert measured.report.held == 0


@needs_tun
def test_giving_up_is_the_time_out_if_it_is_shorter(tmp_path: Path) -> None:
    """A SYN without an answer keeps its own error, and the advice names the option."""
    found, _ = measured_on_path(in_flight("bind", 4, give_up_ms=30.0), 20, (SILENT,), tmp_path)
    [measured] = found.rounds
    assert measured.samples.errno.tolist() == [TIMED_OUT] * 5
    assert measured.fault
    assert measured.fault.hint.endswith("or give more --give-up-after")


def test_slow_attempts_are_given_up() -> None:
    """An attempt that took longer than the limit loses its connection, and its port is free again."""
    plan = make_plan(in_flight("bind", 1, give_up_ms=0.000_001), 8, 20)
    result = Result(plan, {})
    with suppress(RunFault):  # where the kernel lets the handshakes of the loopback wait, they time out
        run(plan, result, lambda _: None, lambda _: None, Interrupts())
    [found] = result.strategies
    assert set(found.samples.errno.tolist()) <= {GIVEN_UP, TIMED_OUT}
    assert found.rounds[0].report.held == 0
    assert measure(in_flight("bind", 4, give_up_ms=60_000), 8, 8).samples.errno.tolist() == [0] * 8


@pytest.mark.parametrize("name", ["plain", "bind"])
def test_the_search_is_the_same(name: str) -> None:
    """One parity first, then the other, then none: connect() searches, whoever waits for the handshake."""
    samples = measure(in_flight(name, 5), 16, 17).samples
    assert {port % 2 for port in samples.port[:8].tolist()} == {0}
    assert {port % 2 for port in samples.port[8:16].tolist()} == {1}
    assert samples.errno.tolist() == [0] * 16 + [errno.EADDRNOTAVAIL]
    assert (samples.handshake_ns > 0).tolist() == [True] * 16 + [False]


@pytest.mark.parametrize(
    "strategy",
    [
        spec("random"),
        pytest.param(spec("window", 4, retries=10**6), marks=needs_port_range),
        pytest.param(spec("range"), marks=needs_port_range),
        pytest.param(spec("partition", 4), marks=needs_port_range),
    ],
    ids=lambda strategy: strategy.name,
)
@pytest.mark.parametrize("clients", [1, 2])
def test_every_strategy_finds_every_port(strategy: StrategySpec, clients: int) -> None:
    """A try without a free port fails in the call, and is followed by another while others are in flight."""
    load = Load(in_flight=3, concurrency=clients)
    found = measure(replace(strategy, load=load), 16, 16)
    if clients == 1 or strategy.name != "partition":  # two clients meet in one window
        assert sorted(found.samples.port.tolist()) == list(range(LOW, LOW + 16))
    assert found.rounds[0].report.established == int((~found.samples.failed).sum())


def test_draws_are_those_without_it() -> None:
    """A seed draws the same, in flight or not."""
    one_by_one, together = (
        measure(replace(spec("random"), load=Load(in_flight=number)), 64, 64).samples for number in (None, 16)
    )
    assert one_by_one.port.tolist() == together.port.tolist()
    assert one_by_one.tries.tolist() == together.tries.tolist()


@pytest.mark.parametrize("clients", [1, 2])
@pytest.mark.parametrize("number", [1, 4, 100])
def test_churn_replaces_open_connections(number: int, clients: int) -> None:
    """All ports stay in use: the connection that leaves is open, and gone before another takes its place."""
    load = {"fill": 1.0, "churn": Churn(100), "concurrency": clients}
    plan = make_plan(in_flight("plain", number, **load), 8, 0)
    result = Result(plan, {})
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
    filled, churned = result.strategies
    assert not filled.samples.failed.any()
    assert not churned.samples.failed.any()
    assert len(churned.samples) == 100
    assert churned.rounds[0].report.established == 8
    read = read_json(json_document(result).encode(), "r.json")  # it looks for a port that two connections have at once
    assert read.known == ()


def test_churn_keeps_its_pace() -> None:
    """With --churn-rate the replacements begin at their times, not before."""
    load = {"fill": 0.5, "churn": Churn(20, rate=200.0)}
    _, churned = measure_phases(in_flight("bind", 10, **load), 16, 0)
    begun = churned.samples.started_ns - churned.samples.started_ns[0]
    assert (begun >= np.arange(20) * 5_000_000 - 5_000_000).all()


def test_a_chain_of_workers_goes_on_in_flight(each_loop: Loop) -> None:
    """Each worker ends with no handshake outstanding, so that the next one begins with the next row."""
    options = ("--strategy", "range", "--in-flight", "50", "-n", "300", "--format", "json", "--loop", each_loop.value)
    done = connbench("run", *options, inside=("--nofile", "100"))
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)["strategies"][0]["rounds"]
    workers = told["workers"]
    assert len(workers) > 2
    ends = [worker["first"] + worker["attempts"] for worker in workers]
    assert [worker["first"] for worker in workers] == [0, *ends[:-1]]
    assert told["established"] == 300


@contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """A listener of the loopback whose queue is full: it answers no SYN."""
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        yield full.getsockname()


def outstanding(port: int) -> int:
    """How many sockets wait for an answer from this port of the loopback."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[2:4] == [f"0100007F:{port:04X}", SYN_SENT] for line in lines)


def test_the_stop_flag_ends_it_and_leaves_rows_unfinished(each_loop: Loop) -> None:
    """The outstanding handshakes are given up at once: nothing is held, and none of their attempts is counted."""
    with full_listener() as target:
        strategy = in_flight("bind", 7)
        plan = make_plan(
            strategy,
            1000,
            20,
            targets=(Endpoint(*target),),
            sources=("127.0.0.1",),
            namespace=Namespace.HOST,
            timeout=600.0,
        )
        planned, rows = RoundPlan(plan, strategy, 1), range(20)
        descriptor = memory.create(20)
        stop = memoryview(array("i", (0,)))
        held_ports, positions = counters_of_client(Draws.of(planned), rows)
        task = WorkerTask(
            plan=planned,
            draws=Draws.of(planned),
            client=0,
            rows=rows,
            capacity=20,
            held_ports=held_ports,
            positions=positions,
            descriptor=descriptor,
            epoch=0,
            columns=memory.views(memory.attach(descriptor, 20), 20),
            stop=stop,
        )
        held, ends = array("i"), []
        loop = threading.Thread(target=lambda: ends.append(module_of(each_loop).run_in_flight(task, held, rows)))
        loop.start()
        wait_until(lambda: outstanding(target[1]) == 7, "seven handshakes are outstanding")
        stop[0] = 1
        loop.join(HANG_S)
        assert [end.reason for end in ends] == [Reason.STOPPED]
        assert held.tolist() == [-1] * 7
        assert outstanding(target[1]) == 0
        assert len(Samples.from_memory(descriptor, 20, rows)) == 0
        os.close(descriptor)


def test_udp_is_refused() -> None:
    """It has no handshake."""
    done = connbench("run", "--protocol", "udp", "--in-flight", "10")
    assert (done.returncode, done.stderr) == (
        2,
        "connbench: --in-flight 10: UDP has no handshake\n  -> leave out --in-flight, or --protocol udp\n",
    )
