"""Reach the levels of a profile one by one, and print which ports the kernel says are in use at each, as JSON.

usage: levels_probe.py < ROUND

ROUND is a `RoundPlan` as JSON. For each level the ports in use before and after its attempts are printed, as
[[before, after], ...]. With `--by-strategy` the strategy itself opens the connections, as where the kernel lacks
IP_LOCAL_PORT_RANGE.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from connbench import samples
from connbench.engine import __main__ as engine
from connbench.engine import listener, network
from connbench.engine.worker import Worker
from connbench.model import Protocol, RoundPlan
from connbench.samples import stop_flag


def ports_in_use(plan: RoundPlan) -> list[int]:
    """The local ports of the sockets that are connected to the target, in ascending order."""
    target = plan.plan.targets[0].port
    kind = "tcp" if plan.strategy.load.protocol is Protocol.TCP else "udp"
    lines = [line.split() for name in (kind, f"{kind}6") for line in _lines(name)]
    ends = [[int(address.rpartition(":")[2], 16) for address in fields[1:3]] for fields in lines]
    return sorted(local for local, remote in ends if remote == target)


def _lines(name: str) -> list[str]:
    return Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]


def main() -> None:
    """Set up, reach each level, print."""
    plan = RoundPlan.from_dict(json.loads(sys.stdin.readline()))
    joined = network.set_up(plan)
    descriptor = samples.create(plan.rows)
    stop = stop_flag(descriptor)
    running = listener.start(plan.plan.listener, plan.plan.targets, plan.connections, plan.handshakes, stop)
    task, *_ = engine._tasks(plan, descriptor, stop, joined)  # noqa: SLF001  # what the engine hands to a worker
    worker = Worker(replace(task, order=None) if "--by-strategy" in sys.argv else task)
    each, taken, seen = plan.rows // len(plan.levels), 0, []
    for number, level in enumerate(plan.levels):
        worker.execute(["occupy", str(taken), str(level)])
        taken, before = level, ports_in_use(plan)
        worker.execute(["sample", str(number * each), str((number + 1) * each), str(len(before))])
        seen.append([before, ports_in_use(plan)])
    running.close()
    print(json.dumps(seen))  # noqa: T201  # stdout is how it tells


if __name__ == "__main__":
    main()
