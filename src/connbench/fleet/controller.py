"""The controller: starts an agent on every host, lets them measure apart or together, and collects their results.

ClusterShell starts ssh, or `ip netns exec`, for each host, and calls this module for each line that a host says and
for each end; five times a second a timer looks at what did not happen. All of it is one thread.

A host goes through the states of `State`. No host measures before all are ready: what is wrong with one of them then
stops all, unless it may be missing. A host that is lost later leaves the others alone.

A host's clock is compared with that of this machine over the same channel: of `PINGS` pings the one with the shortest
round trip counts. The host read its clock within that round trip, so half of it is the largest error.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from ClusterShell.Event import EventHandler

import connbench
from connbench.errors import ConnbenchError, EnvironmentFault, Interrupted, RunFault, UsageError
from connbench.fleet.events import decode_event
from connbench.fleet.hosts import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    SSH_FAILED,
    Hosts,
    Via,
    copy_worker,
    how_to_install,
    make_worker,
    new_task,
)
from connbench.fleet.protocol import (
    LONGEST_LINE,
    PING_EVERY_S,
    PROTOCOL,
    Checked,
    Done,
    End,
    Failed,
    Go,
    Hello,
    OneEvent,
    OneOrder,
    Ping,
    PlanOrder,
    Pong,
    ProgressEvent,
    Ready,
    Stop,
    Waiting,
    encode,
)
from connbench.interrupts import Interrupts
from connbench.linux.limits import raise_open_files
from connbench.results.fleet_file import HostRecord, check_kind
from connbench.results.input_file import LARGEST_FILE, read
from connbench.results.result import Result
from connbench.safe_text import printable
from connbench.units import NS_PER_S, NS_PER_US
from connbench.wording import listed

TICK_S = 0.2
"""Seconds between two looks at signals and at what is late."""

PINGS = 8
"""Pings before each start."""

LEAD_S, LEAD_ROUND_TRIPS = 0.25, 4
"""How long before a start the hosts are told of it: seconds, and round trips of the slowest host beside them."""

OTHERS_S = 5.0
"""Seconds in which the other hosts may still say what is wrong with them, once one of them stops all."""

END_S = 8.0
"""Seconds that an agent may take to end; it promises less."""

LONGEST_SAID, KEPT_LINES = 1000, 20
"""Characters of a line on stderr that are kept, and lines."""

MOST_NOISE = 200
"""Lines that the shell of a host may print before its agent begins."""

MOST_AT_ONCE = 64
"""Hosts that are being connected, or whose results are being copied: for each of them an ssh starts here."""

MOST_NAMED = 8
"""Hosts that a sentence names; it counts the others."""

MOST_BYTES = 1 << 30
"""Bytes that an agent may send altogether: two events a second are a month."""

logging.getLogger("ClusterShell").addHandler(logging.NullHandler())  # else it warns of closed pipes on stderr


class State(IntEnum):
    """How far a host is."""

    IDLE = 0
    """Its turn to be connected has not come."""
    CONNECTING = 1
    PLANNING = 2
    READY = 3
    WAITING = 4
    """Everything for a turn is set up, and the other hosts are waited for."""
    RUNNING = 5
    COPYING = 6
    ENDING = 7
    DONE = 8
    FAILED = 9


WORDS = {
    State.IDLE: "not connected yet",
    State.CONNECTING: "connecting",
    State.PLANNING: "planning",
    State.READY: "ready",
    State.WAITING: "waiting for the others",
    State.RUNNING: "measuring",
    State.COPYING: "copying its result",
    State.ENDING: "ending",
    State.DONE: "done",
    State.FAILED: "lost",
}


@dataclass(frozen=True)
class FleetRequest:
    """What to measure where.

    Attributes:
        hosts: The hosts, and how to reach them.
        options: The options of `connbench run`, checked.
        together: Whether all begin each turn at the same instant.
        allow_missing: How many hosts may be missing at the start.
    """

    hosts: Hosts
    options: tuple[str, ...]
    together: bool = False
    allow_missing: int = 0


@dataclass(eq=False)
class Host:
    """A host, as far as it is known.

    Attributes:
        name: As the user named it.
        state: How far it is.
        hello: What its agent said first.
        ready: What it is going to measure.
        progress: What it said last of a turn.
        turn: The turn that it waits for or runs, from 1.
        fault: What is wrong with it: without a result, why there is none.
        is_left_out: Whether it is missing, and may be.
        has_begun: Whether it was told to begin.
        is_stopped: Whether it was told to stop.
        copied: Descriptor of a file without a name that has its result; None without one.
        offset_ns: Its clock minus this machine's, in ns.
        error_ns: The largest error of its offsets, in ns.
        offsets_us: The offset before each turn, in us.
    """

    name: str
    state: State = State.IDLE
    hello: Hello | None = None
    ready: Ready | None = None
    progress: ProgressEvent | None = None
    turn: int = 0
    fault: ConnbenchError | None = None
    is_left_out: bool = False
    has_begun: bool = False
    is_stopped: bool = False
    copied: int | None = None
    offset_ns: int | None = None
    error_ns: int = 0
    offsets_us: list[float] = field(default_factory=list)
    # What follows is the controller's own.
    worker: Any = None
    copier: Any = None
    file: int | None = None
    done: Done | None = None
    checked: Checked | None = None
    stderr: list[str] = field(default_factory=list)
    noise: int = 0
    exit_code: int | None = None
    cut_off_at: int = 0
    since: float = 0.0
    heard_at: float = 0.0
    pinged_at: float = 0.0
    pings: int = 0
    sent_ns: int = 0
    clock: tuple[int, int] | None = None
    is_open: bool = False

    @property
    def is_compared(self) -> bool:
        """Whether its clock was compared as often as before each start."""
        return self.pings == PINGS and not self.sent_ns

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in {State.DONE, State.FAILED}

    @property
    def share(self) -> float:
        """The part of its attempts that are made, 0 to 1, as far as it is known."""
        if self.state is State.DONE:
            return 1.0
        if not self.ready or not self.ready.turns:
            return 0.0
        now = self.progress.done / max(1, self.progress.attempts) if self.progress else 0.0
        return min(1.0, (max(0, self.turn - 1) + now) / self.ready.turns)


class Watcher(Protocol):
    """What shows how far the hosts are."""

    def changed(self, host: Host) -> None:
        """A host has another state."""

    def refresh(self, hosts: Sequence[Host]) -> None:
        """Called five times a second."""

    def clear(self) -> None:
        """Called before something else is printed, and at the end."""

    def warn(self, hosts: Sequence[str], text: str, advice: str) -> None:
        """These hosts know of this before they begin."""


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        records: What each host measured, in the order of the host set.
        stopped: The signal that ended it, or a fault of no single host; None otherwise.
        failed: The hosts that stopped all before they began, and why.
    """

    records: tuple[HostRecord, ...]
    stopped: ConnbenchError | None
    failed: tuple[tuple[str, ConnbenchError], ...]


def check(request: FleetRequest) -> None:
    """Check what can be known to be wrong before a host is reached.

    Raises:
        UsageError: Hosts that begin together are more than may be busy at a time, or the options are too long.
    """
    hosts = request.hosts
    if request.together and hosts.fanout < len(hosts.names):
        raise UsageError(
            f"--fanout {hosts.fanout} with --together and {len(hosts.names)} hosts would never begin",
            "leave out --fanout: together all hosts measure at the same time",
        )
    if len(encode(PlanOrder(request.options, request.together))) > LONGEST_LINE:
        raise UsageError("the options of connbench run are too long", f"they may have {LONGEST_LINE >> 10} KiB")


def run_fleet(request: FleetRequest, watcher: Watcher, interrupts: Interrupts) -> Outcome:
    """Measure on all hosts, and collect what they measured.

    Args:
        request: What to measure where.
        watcher: Told of all changes.
        interrupts: Checked five times a second. The first signal ends the measurement, and what was measured is
            collected; the second one ends at once.

    Raises:
        EnvironmentFault: ssh, or ip, is not installed here, or no file for results can be made.
    """
    raise_open_files()
    interrupts.immediate = False
    with new_task(request.hosts) as task, ExitStack() as stack:
        controller = Controller(request, watcher, interrupts, task)
        stack.callback(controller.close)
        try:
            controller.run()
        finally:
            watcher.clear()
        return Outcome(tuple(map(_record, controller.hosts)), controller.stopped, controller.failed)


def _record(host: Host) -> HostRecord:
    """What a host measured; its file is read as strictly as one from anybody."""
    result, fault = None, host.fault
    if host.copied is not None:
        name = f"/proc/self/fd/{host.copied}"
        try:
            result = _checked(read(Path(name)), host.name)
        except ConnbenchError as error:
            shown = error.message.replace(name, "its result")
            fault = RunFault(shown, "its part is lost: see that the same connbench is installed there")
    if result is None and fault is None:
        fault = RunFault("it measured nothing", "run it again")
    offset = None if host.offset_ns is None else host.offset_ns / NS_PER_US
    return HostRecord(
        host.name,
        result,
        fault,
        left_out=host.is_left_out,
        offset_us=offset,
        error_us=None if offset is None else host.error_ns / NS_PER_US,
        offsets_us=tuple(host.offsets_us),
    )


def new_file() -> int:
    """Descriptor of a temporary file that has no name: a SIGKILL leaves nothing."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _checked(result: Result, name: str) -> Result:
    """The result under the name of its host, if it is one of a run: a fleet file with another one is not read again.

    Raises:
        RunFault: It is another one.
    """
    try:
        check_kind(result)
    except ValueError as error:
        raise RunFault(f"its result {error}") from error
    result.name = name
    return result


class Controller:
    """All hosts, and what to do next."""

    def __init__(
        self,
        request: FleetRequest,
        watcher: Watcher,
        interrupts: Interrupts,
        task: Any,  # noqa: ANN401  # ClusterShell has no types
    ) -> None:
        self.hosts = [Host(name) for name in request.hosts.names]
        self.stopped: ConnbenchError | None = None
        self.failed: tuple[tuple[str, ConnbenchError], ...] = ()
        """As in `Outcome`: with either of them nothing more begins."""
        self._request = request
        self._watcher = watcher
        self._interrupts = interrupts
        self._task = task
        self._timer: Any = None
        self._is_begun = False
        self._deadline: float | None = None
        """When what has not ended is given up, by time.monotonic()."""

    @property
    def _is_stopping(self) -> bool:
        return self.stopped is not None or bool(self.failed)

    @property
    def _most(self) -> int:
        """How many hosts may be connected, or have their results copied, at the same time."""
        return min(self._request.hosts.fanout, MOST_AT_ONCE)

    def close(self) -> None:
        """Close the copied results."""
        for host in self.hosts:
            for descriptor in (host.copied, host.file):
                if descriptor is not None:
                    os.close(descriptor)
            host.copied = host.file = None

    # ---- the order of things

    def run(self) -> None:
        """Run ClusterShell's loop until all hosts are over.

        Raises:
            EnvironmentFault: No file for copies can be made here.
        """
        try:
            os.close(new_file())
        except OSError as error:
            raise EnvironmentFault(
                f"no file for the results can be made: {error.strerror}", "name a folder by TMPDIR"
            ) from error
        self._task.set_info("fanout", 4 * len(self.hosts))  # `_connect` and `_begin` keep the fan-out
        self._timer = self._task.timer(TICK_S, _Ticks(self), interval=TICK_S)
        self._step()
        self._task.resume()

    def _step(self) -> None:
        """Do what can be done now; called after each event."""
        if self._is_stopping:
            self._end_all()
        elif not self._is_begun:
            self._connect()
            self._gather()
        if self._is_begun and not self._is_stopping:
            self._begin()
        self._copy()
        if self._timer and all(host.is_over and not host.is_open for host in self.hosts):
            timer, self._timer = self._timer, None
            timer.invalidate()

    def _connect(self) -> None:
        """Start agents, so many at a time as may be on their way."""
        busy = sum(host.state in {State.CONNECTING, State.PLANNING} for host in self.hosts)
        for host in self.hosts:
            if host.state is State.IDLE and busy < self._most:
                busy += 1
                self._change(host, State.CONNECTING)
                words = [*self._request.hosts.connbench, "agent"]
                host.worker = make_worker(self._request.hosts, [host.name], words, _Agent(self, host), timeout_s=-1)
                host.worker.longest = MOST_BYTES
                host.worker.write(self._request.hosts.archive)
                host.since, host.is_open = time.monotonic(), True
                self._task.schedule(host.worker)

    def _gather(self) -> None:
        """Once every host is ready or failed: begin, or stop all."""
        failed = [host for host in self.hosts if host.state is State.FAILED]
        if len(failed) > self._allowed and self._deadline is None:
            self._deadline = time.monotonic() + OTHERS_S
        undecided = [host for host in self.hosts if host.state < State.READY]
        if undecided and (self._deadline is None or time.monotonic() < self._deadline):
            return
        self._deadline = None
        ready = [host for host in self.hosts if host.ready and not host.is_over]
        if not self._leave_out(failed) or not self._agree(ready):
            return
        self._is_begun = True
        self._warn(ready)
        for host in ready:
            if not self._request.together:
                self._synchronise(host)

    @property
    def _allowed(self) -> int:
        """How many hosts may be missing: not all."""
        return min(self._request.allow_missing, len(self.hosts) - 1)

    def _leave_out(self, failed: Sequence[Host]) -> bool:
        """Go on without hosts that failed before any has begun; if they are too many, stop all, and return False."""
        faults = [(host, host.fault or RunFault("it was lost")) for host in failed]
        if len(failed) > self._allowed:
            self.failed = tuple((host.name, fault) for host, fault in faults)
            self._end_all()
            return False
        for host, fault in faults:
            if not host.is_left_out:
                host.is_left_out = True
                self._watcher.warn([host.name], f"left out: {fault.message}", fault.hint)
        return True

    def _warn(self, ready: Sequence[Host]) -> None:
        """Tell what hosts know of before they begin, once for all that know the same."""
        by_text: dict[tuple[str, str], list[str]] = {}
        for host in ready:
            for warning in host.ready.warnings if host.ready else ():
                names = by_text.setdefault((printable(warning.text), printable(warning.advice)), [])
                if host.name not in names:
                    names.append(host.name)
        versions = {printable(host.hello.connbench) for host in ready if host.hello} | {connbench.__version__}
        if len(versions) > 1:
            text = f"the versions of connbench differ, here or there: {listed(sorted(versions))}"
            by_text[text, "install the same one on all hosts"] = [host.name for host in ready]
        for (text, advice), names in by_text.items():
            self._watcher.warn(names, text, advice)

    def _agree(self, ready: Sequence[Host]) -> bool:
        """Whether hosts that run together have the same turns; otherwise stop all."""
        if not self._request.together:
            return True
        turns = {(host.ready.turns, host.ready.strategies): host.name for host in ready if host.ready}
        if len(turns) == 1:
            return True
        (one, _), (other, _) = list(zip(turns.values(), turns, strict=True))[:2]
        self.stopped = UsageError(
            f"{one} and {other} would not measure the same strategies, so that they cannot run together",
            "name the strategies by --strategy",
        )
        self._end_all()
        return False

    def _begin(self) -> None:
        """Let those begin that can: apart as many as the fan-out allows, together all at the same instant."""
        measuring = [host for host in self.hosts if host.state < State.COPYING]
        if self._request.together:
            self._begin_together(measuring)
            return
        busy = sum(host.state is State.RUNNING for host in measuring)
        for host in measuring:
            if host.state is State.READY and host.is_compared and busy < self._request.hosts.fanout:
                busy += 1
                self._take_clock(host)
                self._go(host, 0)

    def _begin_together(self, measuring: Sequence[Host]) -> None:
        if not any(host.has_begun for host in self.hosts):
            failed = [host for host in self.hosts if host.state > State.COPYING]  # while they set up their first turn
            if not self._leave_out(failed):
                return
        if not measuring or any(host.state is not State.WAITING for host in measuring):
            return
        for host in measuring:
            if host.pings == 0:
                self._synchronise(host)
        if all(host.is_compared for host in measuring):
            for host in measuring:
                self._take_clock(host)
            slowest = 2 * max(host.error_ns for host in measuring)
            at_ns = time.time_ns() + int(LEAD_S * NS_PER_S) + LEAD_ROUND_TRIPS * slowest
            for host in measuring:
                self._go(host, max(0, at_ns + (host.offset_ns or 0)))

    def _go(self, host: Host, at_ns: int) -> None:
        host.has_begun = True
        self._say(host, Go(at_ns))
        self._change(host, State.RUNNING)

    def _end_all(self) -> None:
        """Let every agent end: those that measure keep what they have."""
        if self._deadline is None:
            self._deadline = time.monotonic() + max(END_S, self._request.hosts.timeout_s)
        by_signal = isinstance(self.stopped, Interrupted)
        number = self.stopped.exit_code - 128 if self.stopped and by_signal else int(signal.SIGINT)
        for host in self.hosts:
            if host.state < State.READY or (host.state in {State.READY, State.WAITING} and not host.has_begun):
                self._say(host, End())
                self._fail(host, RunFault("it was stopped before it measured anything", "run it again"))
            elif host.state in {State.WAITING, State.RUNNING} and not host.is_stopped:
                host.is_stopped = True
                self._say(host, Stop(number))

    # ---- clocks

    def _synchronise(self, host: Host) -> None:
        """Begin to compare clocks."""
        host.clock, host.pings = None, 0
        self._ping(host)

    def _ping(self, host: Host) -> None:
        host.pings += 1
        host.sent_ns = time.time_ns()
        host.pinged_at = time.monotonic()
        self._say(host, Ping(host.pings))

    def _take_pong(self, host: Host, pong: Pong) -> None:
        now = time.time_ns()
        if not pong.number or pong.number != host.pings or not host.sent_ns:
            return
        trip = max(0, now - host.sent_ns)
        if host.clock is None or trip < host.clock[0]:
            host.clock = trip, pong.now_ns - (host.sent_ns + now) // 2
        host.sent_ns = 0
        if host.pings < PINGS:
            self._ping(host)

    def _take_clock(self, host: Host) -> None:
        assert host.clock is not None  # noqa: S101  # a pong came for each ping
        trip, host.offset_ns = host.clock
        host.error_ns = max(host.error_ns, (trip + 1) // 2)
        if self._request.together:
            host.offsets_us.append(host.offset_ns / NS_PER_US)

    # ---- what a host says

    def take_line(self, host: Host, line: bytes) -> None:
        """A host said a line on stdout."""
        if host.is_over:
            return
        host.heard_at = time.monotonic()
        if host.hello is None and not line.startswith(b'{"event":'):
            host.noise += 1  # a shell's start-up file may print something
            if host.noise > MOST_NOISE:
                self._fail(host, RunFault("its shell prints no end of lines", "see what its start-up files print"))
        else:
            try:
                self._take(host, decode_event(line))
            except ConnbenchError as fault:
                self._fail(host, fault, abort=True)
        self._step()

    def _take(self, host: Host, event: OneEvent) -> None:
        match event:
            case Hello() if host.state is State.CONNECTING:
                self._take_hello(host, event)
            case Ready() if host.state is State.PLANNING and event.turns and event.strategies:
                host.ready = event
                self._change(host, State.READY)
            case Pong() if host.hello:
                self._take_pong(host, event)
            case Waiting(turn=turn) if turn == host.turn + 1 and self._is_before_turn(host):
                host.turn, host.progress, host.clock, host.pings = turn, None, None, 0
                self._change(host, State.WAITING)
            case ProgressEvent() if host.ready and event.turn <= host.ready.turns:
                if host.state is State.RUNNING:
                    host.progress = event
                    host.turn = host.turn if self._request.together else event.turn
            case Failed() if host.hello:
                self._fail(host, event.fault.revive())
            case Done() if host.ready and host.state < State.COPYING and (host.has_begun or event.descriptor is None):
                self._take_done(host, event)
            case _:
                raise RunFault(
                    f"its agent said {type(event).__name__.lower()!r} while it was {WORDS[host.state]}",
                    "see that the same connbench is installed on either host",
                )

    def _is_before_turn(self, host: Host) -> bool:
        """Whether a host may say that it waits for a turn."""
        may_wait = host.state in {State.READY, State.RUNNING} and self._request.together
        return may_wait and host.ready is not None and host.turn < host.ready.turns

    def _take_hello(self, host: Host, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise EnvironmentFault(
                f"it has connbench {printable(hello.connbench)}, whose agent speaks protocol {hello.protocol}; "
                f"connbench {connbench.__version__} here speaks protocol {PROTOCOL}",
                "install the same version there, or give --push",
            )
        host.hello = hello
        self._say(host, self._first_order())
        self._change(host, State.PLANNING)

    def _first_order(self) -> OneOrder:
        """What an agent is to do once it has said hello."""
        return PlanOrder(self._request.options, self._request.together)

    def _take_done(self, host: Host, done: Done) -> None:
        host.done = done
        if done.fault:
            host.fault = done.fault.revive()
        if done.descriptor is None:
            if host.fault is None:
                host.fault = RunFault("it measured nothing", "run it again")
            self._end(host)
            return
        if not 0 < done.size <= LARGEST_FILE:
            raise RunFault(f"its result has {done.size:,} bytes", f"a result has at most {LARGEST_FILE:,}")
        self._change(host, State.COPYING)

    def _copy(self) -> None:
        """Copy results, so many at a time as may be on their way."""
        busy = sum(host.copier is not None for host in self.hosts)
        for host in self.hosts:
            if host.state is State.COPYING and host.file is None and busy < self._most and host.hello and host.done:
                try:
                    host.file = new_file()
                except OSError as error:
                    self._lose_copy(host, f"no file for it can be made, see TMPDIR: {error.strerror}")
                    continue
                busy += 1
                source = f"/proc/{host.hello.pid}/fd/{host.done.descriptor}"
                host.copier = copy_worker(self._request.hosts, host.name, source, host.file, _Copy(self, host))
                self._task.schedule(host.copier)

    def _lose_copy(self, host: Host, why: str) -> None:
        host.fault = RunFault(f"its result was not copied: {why}", "its part is lost; run it again")
        self._end(host)

    def take_copied(self, host: Host, exit_code: int | None, words: str) -> None:
        """The copy of a result has ended: keep it if it is as large as the agent said."""
        host.copier = None
        file, host.file = host.file, None
        assert file is not None and host.done is not None  # noqa: S101, PT018  # `_copy` set both
        is_whole = exit_code == 0 and os.fstat(file).st_size == host.done.size
        if host.is_over or not is_whole:
            os.close(file)
        if host.is_over:
            return
        if is_whole:
            host.copied = file
            self._end(host)
        else:
            self._lose_copy(
                host, words or ("it is not whole" if exit_code == 0 else f"the copy ended with exit code {exit_code}")
            )
        self._step()

    def take_end(self, host: Host) -> None:
        """The agent of a host, or the ssh to it, has ended."""
        host.is_open = False
        if host.state is State.ENDING:
            self._change(host, State.DONE if self._has_answered(host) else State.FAILED)
        elif host.cut_off_at and not host.is_over:
            fault = RunFault(f"it sent more than {host.cut_off_at >> 10:,} KiB", "see what it prints to every shell")
            self._fail(host, fault)
        elif not host.is_over:
            self._fail(host, why_lost(self._request.hosts, host))
        self._step()

    # ---- what happens in time

    def tick(self) -> None:
        """Look at signals and at what is late; called five times a second."""
        try:
            self._interrupts.check()
        except Interrupted as signalled:
            if isinstance(self.stopped, Interrupted):
                self._abort_all()
            else:
                self.stopped, self._deadline = signalled, None
        now = time.monotonic()
        for host in self.hosts:
            self._watch(host, now)
        if self._is_stopping and self._deadline is not None and now > self._deadline:
            self._abort_all()
        self._step()
        self._watcher.refresh(self.hosts)

    def _watch(self, host: Host, now: float) -> None:
        timeout = self._request.hosts.timeout_s
        if host.state in {State.CONNECTING, State.PLANNING} and now - host.since > timeout:
            what = "has not answered" if host.hello is None else "was not ready"
            said = f"; it said: {host.stderr[-1]}" if host.stderr else ""
            fault = EnvironmentFault(
                f"it {what} within {timeout:g} s{said}", "see what keeps it, or give --timeout more"
            )
            self._fail(host, fault, abort=True)
        elif State.READY <= host.state <= State.COPYING and now - host.heard_at > timeout:
            self._kill_there(host)
            self._fail(host, RunFault(f"it has said nothing for {timeout:g} s", "its part is lost"), abort=True)
        elif host.is_open and host.state > State.COPYING and now - host.since > END_S:
            host.worker.abort()
        elif host.is_open and _unread(host.worker) > LONGEST_LINE:
            self._fail(host, RunFault(f"its agent sent a line of more than {LONGEST_LINE:,} bytes"), abort=True)
        if host.copier and host.file is not None and host.done and os.fstat(host.file).st_size > host.done.size:
            host.copier.abort()
        every = min(PING_EVERY_S, timeout / 4)  # a host that waits is not silent, however short --timeout is
        if host.hello and host.state <= State.COPYING and not host.sent_ns and now - host.pinged_at > every:
            host.pinged_at = now
            self._say(host, Ping(0))

    def _abort_all(self) -> None:
        """Wait for nothing any more."""
        for host in self.hosts:
            if not host.is_over:
                self._fail(host, RunFault("it was not waited for", "its part is lost"), abort=True)
            elif host.is_open:
                host.worker.abort()

    def _kill_there(self, host: Host) -> None:
        """Kill an agent that may be stopped, and then notices no end of stdin. In a namespace, ClusterShell does it."""
        if host.hello and self._request.hosts.via is Via.SSH:
            words = ["kill", "-KILL", str(host.hello.pid)]
            worker = make_worker(self._request.hosts, [host.name], words, _OfHost(self, host), timeout_s=END_S)
            worker.longest = LONGEST_LINE
            self._task.schedule(worker)

    # ---- what a host becomes

    def _say(self, host: Host, order: OneOrder) -> None:
        if host.is_open:
            host.worker.write(encode(order))

    def _change(self, host: Host, state: State) -> None:
        host.state = state
        self._watcher.changed(host)

    def _end(self, host: Host) -> None:
        """Let an agent end."""
        self._say(host, End())
        if host.is_open:
            host.since = time.monotonic()
            self._change(host, State.ENDING)
            host.worker.set_write_eof()
        else:
            self._change(host, State.DONE if self._has_answered(host) else State.FAILED)

    def _has_answered(self, host: Host) -> bool:
        """Whether a host gave what it was asked for."""
        return host.copied is not None

    def _fail(self, host: Host, fault: ConnbenchError, *, abort: bool = False) -> None:
        """Give a host up; it ends by itself, as its stdin ends, or is not waited for."""
        host.fault, host.since = fault, time.monotonic()
        self._change(host, State.FAILED)
        if host.copier:
            host.copier.abort()
        if host.is_open:
            if abort:
                host.worker.abort()
            else:
                host.worker.set_write_eof()


def _unread(worker: Any) -> int:  # noqa: ANN401  # ClusterShell has no types
    """The bytes of a line that has not ended; ClusterShell keeps them without a limit, and has no other way to see."""
    clients = worker._engine_clients()  # noqa: SLF001  # as above
    return max((len(stream.rbuf) for client in clients for stream in client.streams.values()), default=0)


def names_of(hosts: Sequence[str]) -> str:
    """Hosts in a sentence: all of them, or a few and how many more."""
    return listed(hosts if len(hosts) <= MOST_NAMED else [*hosts[:MOST_NAMED], f"{len(hosts) - MOST_NAMED} more"])


SSH_REASONS = (
    ("host key", "log in once by hand, `ssh {host}`, and compare the key"),
    ("permission denied", "`ssh {host}` has to work without a password: see ssh-copy-id and ssh-agent"),
    ("resolve", "see the name, or give it a HostName in ~/.ssh/config"),
    ("refused", "see that sshd runs there, and at which port: `ssh {host}`"),
    ("", "see that `ssh {host}` works"),
)
"""What ssh says in its last line, and what to do about it."""


def why_lost(hosts: Hosts, host: Host) -> ConnbenchError:
    """Why an agent ended before its work was done."""
    words = host.stderr[-1] if host.stderr else ""
    code = host.exit_code
    all_words = "\n".join(host.stderr)
    if host.hello is not None:
        advice = "its part is lost; run it again" if host.has_begun else "run it again"
        if hosts.via is Via.SSH and code == SSH_FAILED:
            how = f"ssh lost it{words and f': {words}'}"
        elif code is not None and code > 128:
            how, advice = f"its agent was killed by {_signal_name(code - 128)}", f"{advice}, and see dmesg there"
        else:
            how = f"its agent ended with exit code {code}{words and f': {words}'}"
        return RunFault(how, advice) if host.has_begun else EnvironmentFault(how, advice)
    if hosts.via is Via.SSH and code == SSH_FAILED:
        advice = next(advice for reason, advice in SSH_REASONS if reason in words.lower())
        return EnvironmentFault(words or "ssh ended without a word", advice.format(host=host.name))
    if hosts.via is Via.NETNS and "Cannot open network namespace" in all_words:
        return EnvironmentFault(
            "there is no network namespace of this name", "`ip netns list` shows those that there are"
        )
    if code in {NOT_FOUND, NOT_EXECUTABLE} or "No module named" in all_words:
        lacking = "Python" if hosts.archive else "connbench"
        return EnvironmentFault(f"it has no {lacking}: {words or f'exit code {code}'}", how_to_install(hosts))
    is_old = any(said in all_words for said in ("no command 'agent'", "needs Python 3.11", "nknown option"))
    if is_old:
        which = "its Python" if hosts.archive else "its connbench or its Python"
        return EnvironmentFault(f"{which} is too old: {words.removeprefix('connbench: ')}", how_to_install(hosts))
    return EnvironmentFault(f"no agent began there: {words or f'exit code {code}'}", how_to_install(hosts))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ---- what ClusterShell calls


class _Ticks(EventHandler):  # type: ignore[misc]  # ClusterShell has no types
    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller

    def ev_timer(self, timer: Any) -> None:  # noqa: ANN401, ARG002  # as above
        self._controller.tick()


class _OfHost(EventHandler):  # type: ignore[misc]  # as above
    """Of one command for a host: keeps what it says on stderr, and its exit code."""

    def __init__(self, controller: Controller, host: Host) -> None:
        super().__init__()
        self._controller = controller
        self._host = host
        self.too_long: set[tuple[str, int]] = set()
        self.stderr: list[str] = []
        self.exit_code: int | None = None

    def ev_read(self, worker: Any, node: str, sname: str, msg: bytes) -> None:  # noqa: ANN401, ARG002  # as above
        if sname == worker.SNAME_STDERR:
            words = printable(msg[:LONGEST_SAID].decode(errors="replace")).strip()
            if words:
                self.stderr.append(words)
                del self.stderr[:-KEPT_LINES]
        else:
            self.take_line(msg)

    def take_line(self, line: bytes) -> None:
        """A line on stdout."""

    def ev_hup(self, worker: Any, node: str, rc: int | None) -> None:  # noqa: ANN401, ARG002  # as above
        self.exit_code = rc


class _Agent(_OfHost):
    """The agent of a host."""

    def __init__(self, controller: Controller, host: Host) -> None:
        super().__init__(controller, host)
        host.stderr = self.stderr

    def take_line(self, line: bytes) -> None:
        self._controller.take_line(self._host, line)

    def ev_close(self, worker: Any, timedout: bool) -> None:  # noqa: ANN401, ARG002  # as above
        self._host.exit_code = self.exit_code
        self._host.cut_off_at = max((limit for _, limit in self.too_long), default=0)
        self._controller.take_end(self._host)


class _Copy(_OfHost):
    """The copy of a host's result."""

    def ev_close(self, worker: Any, timedout: bool) -> None:  # noqa: ANN401, ARG002  # as above
        self._controller.take_copied(self._host, self.exit_code, self.stderr[-1] if self.stderr else "")
