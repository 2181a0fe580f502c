"""`python -m connbench.engine`: run one round. Stdin has the plan as a line of JSON; stdout gets a line for each event.

The arguments are the descriptor of the samples' shared memory and the parent's process id. The events are:

- `ready`, with the namespace's settings: the round begins.
- `waiting`: the first workers are ready, and the plan says that the parent tells when they begin. Then stdin gets a
  second line, that instant in ns of CLOCK_REALTIME.
- `measured`, with the report of a phase: the phase has ended.
- `failed`, with message, hint and exit code: the round ends early, or did not begin.
- `finished`, with the reports of all phases: all connections are closed.

The round ends early once the stop flag in the shared memory is set, by the parent or by a SIGTERM to any process of the
round. The engine then reports and closes the connections as at any other end.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import Any

from connbench.draws import Draws, order_of_ports
from connbench.engine import listener, network
from connbench.engine.network import Network
from connbench.engine.scheduler import TICK_MS, Scheduler, check_capacity
from connbench.engine.task import WorkerTask, counters_of_client
from connbench.errors import ConnbenchError, RunFault
from connbench.interrupts import ENDING_SIGNALS, set_by_signals
from connbench.linux import counters, sysctl
from connbench.linux.faults import fault_of, fault_to_dict
from connbench.linux.limits import raise_open_files
from connbench.linux.process import die_with_parent, resident_bytes, usable_cpus
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Link, Phase, RoundPlan, parse_ports
from connbench.model.round_report import RoundReport
from connbench.samples import stop_flag
from connbench.units import NS_PER_US


def send(event: str, **fields: object) -> None:
    """Send an event to the parent."""
    print(json.dumps({"event": event, **fields}), flush=True)  # noqa: T201  # stdout is the protocol


def run(plan: RoundPlan, descriptor: int, parent: int, stop: memoryview[int]) -> None:
    """Run a round, from making its namespace to closing its last connection.

    Args:
        plan: The round.
        descriptor: The shared memory of the samples.
        parent: The parent's process id.
        stop: The stop flag of the round.

    Raises:
        ConnbenchError: The round cannot begin. A fault after that is sent as `failed`, beside what was measured.
    """
    die_with_parent(parent)
    engine_rss = resident_bytes()
    raise_open_files()
    own_network = network.set_up(plan)
    die_with_parent(parent)
    tasks = _tasks(plan, descriptor, stop, own_network)
    with own_network.listening_end():
        running = listener.start(plan.plan.listener, plan.plan.targets, plan.connections, plan.handshakes, stop)
    try:
        check_capacity(tasks)
        if stop[0]:
            raise RunFault("the engine process was stopped by SIGTERM before the round began", "run it again")
        send("ready", settings=own_network.settings)
        scheduler = Scheduler(tasks, running.check)
        reports = _measure(scheduler, tasks[0].plan, own_network, engine_rss)
        scheduler.close(meanwhile=running.close)
    finally:
        running.close()
    own_network.close()
    send("finished", reports=reports)


def _tasks(plan: RoundPlan, descriptor: int, stop: memoryview[int], own_network: Network) -> list[WorkerTask]:
    """Divide the round into a task for each client."""
    names_port = plan.levels and (plan.strategy.traits.binds_to_port or is_supported(LOCAL_PORT_RANGE))
    order = order_of_ports(plan, os.uname().release) if names_port else None
    draws = Draws.of(plan, parse_ports(own_network.settings.get(sysctl.RESERVED_PORTS, "")))
    epoch = time.perf_counter_ns()
    # Behind a NAT the listener's end has another address and port for this end.
    is_ours = plan.is_listener_ours and plan.plan.link is not Link.NAT
    tasks = [
        WorkerTask(
            plan=plan,
            draws=draws,
            client=client,
            rows=rows,
            capacity=len(rows),
            held_ports=held_ports,
            positions=positions,
            descriptor=descriptor,
            epoch=epoch,
            stop=stop,
            all_rows=plan.rows,
            far=own_network.far,
            namespace=own_network.clients[plan.client_namespace_of(client)] if own_network.clients else None,
            resets_peer=plan.resets_while_others_connect and is_ours,
            order=order,
        )
        for client, rows in enumerate(plan.rows_of_clients(Phase.FILL))
        for held_ports, positions in (counters_of_client(draws, rows),)
    ]
    if order and usable_cpus() - set(plan.plan.cpus):
        # A second client, on another CPU, helps to put ports in use: it makes no attempt.
        elsewhere = replace(plan, plan=replace(plan.plan, cpus=()))
        tasks.append(replace(tasks[0], plan=elsewhere, client=1, rows=range(0)))
    return tasks


def _measure(scheduler: Scheduler, plan: RoundPlan, own_network: Network, engine_rss: int) -> list[dict[str, Any]]:
    """Run the phases of the round, and return the reports of those that began."""
    begun = RoundReport(settings=own_network.settings, engine_rss=engine_rss)
    gc.collect()
    gc.disable()  # a collection in a worker copies the pages of all objects that it looks at
    reports = []
    for phase in plan.strategy.phases:
        report, is_complete = _run_phase(scheduler, plan, phase.phase, own_network, begun)
        reports.append(report)
        send("measured", report=asdict(report))  # in case the next phase kills this process
        if not is_complete:
            break
    return [asdict(report) for report in reports]


def _run_phase(
    scheduler: Scheduler, plan: RoundPlan, phase: Phase, own_network: Network, begun: RoundReport
) -> tuple[RoundReport, bool]:
    """Run a phase of the round, and return its report, and whether the phase ran to its end."""
    before, (stolen_before, ticks_before) = own_network.read_counters(), counters.read_cpu_ticks()
    held, established, is_complete = 0, 0, True
    try:
        at_ns = 0
        if phase is not Phase.CHURN:
            scheduler.start_first()
            at_ns = _start(plan, scheduler.stop)
        scheduler.run(phase, at_ns)
    except ConnbenchError as fault:
        is_complete = False
        _send_failed(fault)
    try:
        held, established = scheduler.count()
    except ConnbenchError as fault:
        is_complete = False
        _send_failed(fault)
    moved = counters.difference(before, own_network.read_counters())
    stolen, ticks = counters.read_cpu_ticks()
    report = replace(
        begun,
        counters=moved,
        workers=scheduler.reports,
        held=held,
        established=established,
        time_wait=own_network.read_time_wait(),
        conntrack_entries=own_network.read_conntrack_entries(),
        steal=(stolen - stolen_before) / max(1, ticks - ticks_before),
        epoch_us=int((time.time_ns() - time.perf_counter_ns() + scheduler.epoch) / NS_PER_US),
    )
    return report, is_complete


def _start(plan: RoundPlan, stop: memoryview[int]) -> int:
    """When the round is to begin, in ns of CLOCK_REALTIME, the clock that several hosts have in common.

    It is 0 for at once. If the parent is to tell, this waits for it, or until the stop flag is set.
    """
    if not plan.waits:
        return 0 if plan.start_at_us is None else int(plan.start_at_us * NS_PER_US)
    send("waiting")
    poller = select.poll()
    poller.register(0, select.POLLIN)
    while not stop[0] and not poller.poll(TICK_MS):
        pass
    return 0 if stop[0] else int(os.read(0, select.PIPE_BUF))


def _send_failed(fault: ConnbenchError) -> None:
    send("failed", **fault_to_dict(fault))


def main() -> int:
    """Entry point of the process. The exit status is 0 if the round was reported, 1 if it could not begin."""
    try:
        descriptor, parent = map(int, sys.argv[1:])
        stop = stop_flag(descriptor)
        _set_up_signals(stop)
        run(RoundPlan.from_dict(json.loads(sys.stdin.readline())), descriptor, parent, stop)
    except Exception as error:  # noqa: BLE001  # a bug in connbench: the parent reports it
        _send_failed(fault_of(error))
        return 1
    return 0


def _set_up_signals(stop: memoryview[int]) -> None:
    """Let SIGTERM set the stop flag, ignore the other signals of `ENDING_SIGNALS`, and unblock all of them.

    The parent started this process with these signals blocked. A terminal sends the others to all processes of the run,
    and the parent handles them.
    """
    for number in ENDING_SIGNALS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    set_by_signals(stop, {signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


if __name__ == "__main__":
    sys.exit(main())
