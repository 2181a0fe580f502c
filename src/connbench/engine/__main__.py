"""`python -m connbench.engine`: one round, told by JSON on stdin, answered in JSON lines on stdout.

The arguments are the descriptor of the samples' shared memory and the parent's process id. The lines are `ready` with
the settings, and `finished` with the round's report; `failed` (message, hint, exit code) comes before the latter, or
instead of both. SIGTERM ends the round early: the connections made until then are reported and closed as ever.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from dataclasses import asdict
from random import Random
from typing import Any

from connbench.engine import listener, network
from connbench.engine.holder import StopRequestedError, stop_on_sigterm
from connbench.engine.lane import Lane
from connbench.engine.loop import Share
from connbench.engine.network import Network
from connbench.engine.sharing import recipe_over, shared_out
from connbench.errors import ConnbenchError, EnvironmentFault
from connbench.linux import counters
from connbench.linux.limits import OUT_OF_RESOURCES, raise_open_files
from connbench.linux.process import die_with_parent, resident_bytes
from connbench.model import RoundPlan
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
    share = _whole(plan, descriptor)
    with joined.listening_end():
        running = listener.start(plan.plan.listener, plan.plan.target, plan.connections)
    say("ready", settings=joined.settings)
    try:
        report = _measure(share, joined, engine_rss)
    finally:
        running.close()
    say("finished", report=report)


def _whole(plan: RoundPlan, descriptor: int) -> Share:
    """The whole round as a share, its draws made."""
    order = shared_out(plan)
    rng = Random(plan.seed_text("first tries"))  # noqa: S311  # reproducible, not secret
    return Share(
        plan=plan,
        recipe=recipe_over(plan, order, rng),
        order=order,
        retries=Random(plan.seed_text("further tries")),  # noqa: S311  # as above
        descriptor=descriptor,
        first=0,
        capacity=plan.connections,
        held_before=(0,) * len(plan.sources),
        epoch=time.perf_counter_ns(),
    )


def _measure(share: Share, joined: Network, engine_rss: int) -> dict[str, Any]:
    lane = Lane()
    gc.collect()
    gc.freeze()
    before, (stolen_before, ticks_before) = joined.read_counters(), counters.read_cpu_ticks()
    established = 0
    try:
        lane.fill(share)
    except ConnbenchError as fault:
        _say_failed(fault)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left to do ends the round in good order
    try:
        established = lane.count_established()
    except ConnbenchError as fault:
        _say_failed(fault)
    moved = counters.difference(before, joined.read_counters())
    stolen, ticks = counters.read_cpu_ticks()
    closing = time.perf_counter_ns()
    lane.close()
    return asdict(
        RoundReport(
            settings=joined.settings,
            counters=moved,
            holders=tuple(lane.reports),
            established=established,
            close_ns=time.perf_counter_ns() - closing,
            steal=(stolen - stolen_before) / max(1, ticks - ticks_before),
            engine_rss=engine_rss,
        )
    )


def _say_failed(fault: ConnbenchError) -> None:
    say("failed", message=fault.message, hint=fault.hint, exit_code=fault.exit_code)


def main() -> int:
    """Entry point of the process; the exit status is 0 once a round has been reported."""
    stop_on_sigterm()
    try:
        run(RoundPlan.from_dict(json.loads(sys.stdin.readline())), *map(int, sys.argv[1:]))
    except ConnbenchError as fault:
        _say_failed(fault)
        return 1
    except OSError as error:
        if error.errno not in OUT_OF_RESOURCES:
            raise
        _say_failed(EnvironmentFault(f"the engine has no room: {error.strerror}", "raise RLIMIT_NOFILE (ulimit -n)"))
        return 1
    except StopRequestedError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
