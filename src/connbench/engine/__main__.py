"""`python -m connbench.engine`: one round, told by JSON on stdin, answered in JSON lines on stdout.

The arguments are the descriptor of the samples' shared memory and the parent's process id. The lines are `ready` with
the settings, `measured` with the report of a phase at its end, and `finished` with those of all; `failed` (message,
hint, exit code) comes before the latter, or instead of all. SIGTERM ends the round early: the connections made until
then are reported and closed as ever.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import Any

from connbench.draws import assign_paths, draw_replaced, draw_round
from connbench.engine import listener, network
from connbench.engine.network import Network
from connbench.engine.scheduler import Scheduler, refuse_without_room
from connbench.engine.task import WorkerTask
from connbench.engine.worker import StopRequestedError, stop_on_sigterm
from connbench.errors import ConnbenchError, RunFault
from connbench.interrupts import ENDING
from connbench.linux import counters, sysctl
from connbench.linux.faults import fault_of, told
from connbench.linux.limits import raise_open_files
from connbench.linux.process import die_with_parent, resident_bytes
from connbench.model import Phase, RoundPlan, parse_ports
from connbench.roundreport import RoundReport


def say(event: str, **fields: object) -> None:
    """One line to the parent."""
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201  # stdout is the protocol


def run(plan: RoundPlan, descriptor: int, parent: int) -> None:
    """Run a round from its namespace to the last connection closed.

    Raises:
        ConnbenchError: It could not begin. Once it has begun, faults are reported beside what was measured.
    """
    die_with_parent(parent)
    engine_rss = resident_bytes()
    raise_open_files()
    joined = network.set_up(plan)
    die_with_parent(parent)
    tasks = _tasks(plan, descriptor, joined)
    with joined.listening_end():
        running = listener.start(plan.plan.listener, plan.plan.targets, plan.connections, plan.rows)
    try:
        refuse_without_room(tasks)
        say("ready", settings=joined.settings)
        reports = _measure(Scheduler(tasks, running.check), tasks[0].plan, joined, engine_rss)
    finally:
        running.close()
    say("finished", reports=reports)


def _tasks(plan: RoundPlan, descriptor: int, joined: Network) -> list[WorkerTask]:
    """The whole round as a task for each client, its draws made."""
    victims = draw_replaced(plan)
    path_by_row = assign_paths(plan, victims)
    draws = draw_round(plan, path_by_row, parse_ports(joined.settings.get(sysctl.RESERVED_PORTS, "")))
    epoch = time.perf_counter_ns()
    return [
        WorkerTask(
            plan=plan,
            draws=draws,
            client=client,
            rows=rows,
            path_by_row=path_by_row,
            victims=victims,
            capacity=len(rows),
            held_before=(0,) * len(plan.sources),
            descriptor=descriptor,
            epoch=epoch,
            far=joined.far,
        )
        for client, rows in enumerate(plan.rows_of_clients(Phase.FILL))
    ]


def _measure(scheduler: Scheduler, plan: RoundPlan, joined: Network, engine_rss: int) -> list[dict[str, Any]]:
    """Run the round's phases; the reports of those that were begun."""
    begun = RoundReport(settings=joined.settings, engine_rss=engine_rss)
    gc.collect()
    gc.freeze()
    reports = []
    for phase in plan.strategy.phases:
        report, is_complete = _run_phase(scheduler, phase.phase, joined, begun)
        reports.append(report)
        say("measured", report=asdict(report))  # should this process not live to the end of the next
        if not is_complete:
            break
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left to do ends the round in good order
    scheduler.close()
    return [asdict(report) for report in reports]


def _run_phase(scheduler: Scheduler, phase: Phase, joined: Network, begun: RoundReport) -> tuple[RoundReport, bool]:
    """The report of a phase, and whether it came to its end."""
    before, (stolen_before, ticks_before) = joined.read_counters(), counters.read_cpu_ticks()
    held, established, is_complete = 0, 0, True
    try:
        scheduler.run(phase)
    except ConnbenchError as fault:
        is_complete = False
        _say_failed(fault)
    try:
        held, established = scheduler.count()
    except ConnbenchError as fault:
        is_complete = False
        _say_failed(fault)
    moved = counters.difference(before, joined.read_counters())
    stolen, ticks = counters.read_cpu_ticks()
    report = replace(
        begun,
        counters=moved,
        workers=scheduler.reports,
        held=held,
        established=established,
        time_wait=counters.read_time_wait(),
        steal=(stolen - stolen_before) / max(1, ticks - ticks_before),
    )
    return report, is_complete


def _say_failed(fault: ConnbenchError) -> None:
    say("failed", **told(fault))


def main() -> int:
    """Entry point of the process; the exit status is 0 once a round has been reported."""
    try:
        _take_signals()
        run(RoundPlan.from_dict(json.loads(sys.stdin.readline())), *map(int, sys.argv[1:]))
    except StopRequestedError:
        _say_failed(RunFault("the engine process was stopped by SIGTERM before the round began", "run it again"))
        return 1
    except Exception as error:  # noqa: BLE001  # a bug of the engine's, too, is told by the parent
        _say_failed(fault_of(error))
        return 1
    return 0


def _take_signals() -> None:
    """Heed SIGTERM alone, and let it through: the parent began this process with all of them blocked.

    The others are the parent's to answer, however many processes they were sent to.
    """
    for number in ENDING - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    stop_on_sigterm()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if __name__ == "__main__":
    sys.exit(main())
