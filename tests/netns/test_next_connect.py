"""What inspect forecasts of the next connect(), against the next connects of this kernel: which port, how many probes.

No time is in it. `scripts/kernel-lab test --trace` boots kernels whose probes can be counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from calls_counted import IN_CONNECT, counting
from connbench.model import Endpoint, PortRange, RoundPlan
from connbench.portmodel.kernel_search import ParityFirst, TcpPortSpace, tcp_port_spaces
from connbench.portmodel.next_search import Half
from run_connbench import INSIDE, make_plan, spec

PORTS = PortRange(40000, 44095)
LEVELS = [round(share * len(PORTS)) for share in (0.3, 0.501, 0.7, 0.95)]
PROBE = Path(__file__).parents[1] / "next_connect_probe.py"


@dataclass(frozen=True, slots=True)
class Level:
    """A number of ports in use.

    Attributes:
        last: The port of the last connection.
        in_use: The ports in use, as inspect finds them.
        forecasts: What inspect says of the next connect(), by strategy.
        next_ports: The ports of the connects that followed; each was reset before the next.
    """

    last: int
    in_use: list[int]
    forecasts: dict[str, dict[str, Any]]
    next_ports: list[int]


def levels(
    connects: Sequence[int], around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Iterator[Level]:
    """Fill the range to each of `LEVELS`, and make so many connects there, within a context of their own."""
    plain = spec("plain")
    most = LEVELS[-1] + sum(connects)  # without accept(), connections that were reset stay in the queue
    # The start of the next search is kept by addresses and the target's port, for all namespaces: a test that runs
    # beside this one must have others.
    target = Endpoint(f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", PORTS.low - 1)
    plan = RoundPlan(make_plan(plain, len(PORTS), most, targets=(target,)), plain, 1)
    command = [sys.executable, str(PROBE)]
    command += [f"{level}:{number}" for level, number in zip(LEVELS, connects, strict=True)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        probe.stdin.write(json.dumps(plan.to_dict()) + "\n")
        for _ in LEVELS:
            probe.stdin.flush()
            seen = json.loads(probe.stdout.readline())
            with around():
                probe.stdin.write("\n")
                probe.stdin.flush()
                ports = json.loads(probe.stdout.readline())
            yield Level(seen["last"], seen["in_use"], seen["forecasts"], ports)
            probe.stdin.write("\n")
        probe.stdin.flush()
        probe.stdin.close()
        assert probe.wait() == 0


def test_the_next_connect_takes_a_port_that_the_model_finds() -> None:
    """At each level: a search begins behind the last port, or up to seven places further, and ends in the half told.

    All but a few: connects elsewhere on this machine move the start if they share its entry in the kernel's table.
    """
    for level, in_use in zip(levels([50] * len(LEVELS)), LEVELS, strict=True):
        assert len(level.in_use) == in_use
        plain = level.forecasts["plain"]
        assert plain["half"] == (Half.FIRST if in_use < len(PORTS) // 2 else Half.SECOND)
        [space] = tcp_port_spaces(PORTS, [0], ParityFirst)
        assert all(map(space.take, level.in_use))
        assert {(port - PORTS.low) % 2 for port in level.next_ports} == {0 if plain["half"] == Half.FIRST else 1}
        found = [
            port in {port_behind(space, last, further) for further in range(8)}
            for last, port in pairwise([level.last, *level.next_ports])
        ]
        assert sum(found) >= 0.9 * len(found)


def port_behind(space: TcpPortSpace, last: int, further: int) -> int:
    """The port that a search finds which begins so many places of its parity behind the port after the last one."""
    space.start = (last - PORTS.low) // 2 * 2 + 2 + 2 * further
    found = space.search(PORTS.low, PORTS.high, 0)
    space.release(found)
    return found


WAITING = """
import json, socket, time
from connbench.inspect.forecast import Forecaster
from connbench.inspect.port_usage import usage
from connbench.inspect.snapshot import Snapshot
from connbench.inspect.sock_diag import dump_sockets, read_settings

server = socket.create_server(("127.0.0.1", 20000), backlog=64)
held = [socket.create_connection(server.getsockname()) for _ in range(16)]
closed = []
for one in held[:4]:
    closed.append(one.getsockname()[1])
    one.close()
    server.accept()[0].close()
time.sleep(1.1)  # tcp_tw_reuse_delay
snapshot = Snapshot(dump_sockets(), read_settings())
[path] = (row for row in usage(snapshot).rows() if row.target_port == 20000)
plain, *_ = Forecaster().forecast(path, snapshot)
after = socket.create_connection(server.getsockname())
print(json.dumps([closed, plain.half, plain.until_knee, plain.until_exhaustion, after.getsockname()[1]]))
"""
"""Takes the even ports of 32, puts four in TIME_WAIT, waits until they may be reused, forecasts, and connects."""


@pytest.mark.parametrize("reuse", [0, 1, 2])
def test_a_port_in_time_wait_is_taken_if_the_forecast_says_so(reuse: int) -> None:
    """With tcp_tw_reuse connect() takes one from the first half; without, it takes a port of the second half."""
    sysctls = {"ip_local_port_range": f"{PORTS.low} {PORTS.low + 31}", "tcp_tw_reuse": reuse}
    options = [word for name, value in sysctls.items() for word in ("--sysctl", f"net.ipv4.{name}={value}")]
    done = subprocess.run(
        [*INSIDE, *options, "--", sys.executable, "-c", WAITING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    closed, *told, port = json.loads(done.stdout)
    assert told == ([Half.FIRST, 4, 20] if reuse else [Half.SECOND, 0, 16])
    assert (port in closed) == (reuse > 0)
    assert (port % 2 == PORTS.low % 2) == (reuse > 0)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("CONNBENCH_EXPECT_TRACE"), reason="scripts/kernel-lab test --trace runs it in a guest"
)
def test_the_next_connect_probes_as_many_ports_as_forecast() -> None:
    """Within 5 % at each level, in the mean of many: the kernel's own calls for ports in use, and the port it takes."""
    counts: list[int] = []
    connects = [4000, 100, 100, 1000]  # two times round the range; in the middle each search probes half of it, and one
    for level, number in zip(levels(connects, lambda: counting(counts, IN_CONNECT)), connects, strict=True):
        probed = counts[-1] / number + 1
        assert len(level.next_ports) == number
        assert probed == pytest.approx(level.forecasts["plain"]["ports_probed"], rel=0.05)
