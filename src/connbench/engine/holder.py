"""A holder: a process that opens a share of the round's connections and keeps them open until the round ends."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
from _socket import IPPROTO_TCP, SO_LINGER, SOL_SOCKET, TCP_INFO, socket
from collections import Counter
from dataclasses import asdict, replace
from typing import Any, Never

from connbench.engine.loop import Share, fill, measure_floor
from connbench.errors import RunFault
from connbench.linux.limits import free_descriptors
from connbench.linux.process import PrivateMemory, die_with_parent
from connbench.linux.sockopts import LINGER_RESET
from connbench.roundreport import HolderReport
from connbench.samples import attach, count_done, views

TCP_ESTABLISHED = 1
"""tcpi_state, the first byte of struct tcp_info (include/net/tcp_states.h)."""

SPARE_DESCRIPTORS = 8
"""Kept free in a holder: the socket of a failing attempt, and files opened for its report."""


class StopRequestedError(BaseException):
    """SIGTERM: stop opening, report, hold. Not an Exception, so that nothing on the way swallows it."""


def stop_on_sigterm() -> None:
    """Have SIGTERM raise `StopRequestedError` in this process."""

    def stop(_signal: int, _frame: object) -> Never:
        raise StopRequestedError

    signal.signal(signal.SIGTERM, stop)


def run_holder(share: Share, channel: socket, engine: int) -> Never:
    """Be a holder: open, report on `channel`, hold until its other end closes, reset every connection, end.

    Args:
        share: What to open; its capacity is cut to what RLIMIT_NOFILE leaves.
        channel: Stream to the engine.
        engine: Process id of the engine; the holder dies with it.
    """
    status = 1
    held: list[socket] = []
    try:
        die_with_parent(engine)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        cpu, usable = share.plan.plan.cpu, os.sched_getaffinity(0)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        channel.sendall(json.dumps(_open(share, held)).encode() + b"\n")
        while channel.recv(1):
            channel.sendall(str(sum(map(_is_established, held))).encode())
        if cpu is not None:
            os.sched_setaffinity(0, usable | {cpu})  # nothing is measured now: use every CPU there is
        for sock in held:
            sock.setsockopt(SOL_SOCKET, SO_LINGER, LINGER_RESET)
            sock.close()
        status = 0
    except Exception as error:  # noqa: BLE001  # a fault of ours: nobody else would ever hear of it
        channel.sendall(json.dumps({"crash": f"{type(error).__name__}: {error}"}).encode() + b"\n")
    finally:
        os._exit(status)


def _is_established(sock: socket) -> bool:
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == TCP_ESTABLISHED


def to_state(state: list[Any]) -> tuple[Any, ...]:
    """State of a random generator as `setstate` wants it, from the lists that JSON made of its tuples."""
    version, numbers, gauss = state
    return version, tuple(numbers), gauss


def _open(share: Share, held: list[socket]) -> dict[str, Any]:
    """Fill `held`; the report as JSON takes it, with what stopped it early under `fault` and `stopped`."""
    fault: RunFault | None = None
    stopped = False
    memory = PrivateMemory()
    room = free_descriptors() - SPARE_DESCRIPTORS
    # Mapped anew: fork() does not hand down the pages of a shared mapping, and the loop would fault each of them in.
    rows = share.plan.connections
    columns = views(attach(share.descriptor, rows), rows)
    share = replace(share, columns=columns, capacity=min(share.capacity, room))
    gc.freeze()
    gc.disable()
    memory_idle = memory.read()
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    stop_on_sigterm()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if room >= 1:
            fill(share, held)
        else:
            fault = RunFault("RLIMIT_NOFILE leaves a holder process no socket", "raise it: ulimit -n 20000")
    except RunFault as error:
        fault = error
    except StopRequestedError:
        stopped = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
    target = share.plan.plan.target
    report = HolderReport(
        first=share.first,
        attempts=count_done(columns["tries"]) - share.first,
        opened=len(held),
        involuntary_switches=switches,
        memory_idle=memory_idle,
        memory_full=memory.read(),
        floor_ns=measure_floor(held[0], (target.host, target.port)) if held else None,
    )
    done = range(share.first, share.first + report.attempts)
    opened = Counter(columns["source"][index] for index in done if columns["port"][index])
    return {
        "report": asdict(report),
        "opened_by_source": [opened[source] for source in range(len(share.plan.sources))],
        "stopped": stopped,
        "retries": share.retries.getstate(),
        "fault": fault and {"message": fault.message, "hint": fault.hint},
    }
