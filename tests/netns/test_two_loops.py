"""The loop in C and the one in Python make the same attempts: real sockets, the same seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Churn, Close, Endpoint, Listener, Load, Loop, Protocol, Spread, StrategySpec
from connbench.results.result import Samples
from connbench.strategies import STRATEGIES
from run_connbench import measure_phases, spec

pytest.importorskip("connbench.engine._loop", reason="connbench was installed without its loop in C")

SOURCES, TARGETS = ("127.9.9.1", "127.9.9.3"), (Endpoint("127.9.9.2", 39999), Endpoint("127.9.9.4", 39999))


def measured(strategy: StrategySpec, connections: int, **changes: Any) -> list[list[Samples]]:  # noqa: ANN401  # any field of Plan
    """The samples of each phase with the loop in C, and with the one in Python, over 16 ports."""
    if not all(map(is_supported, options_of(strategy.traits))):
        pytest.skip("this kernel lacks an option of this strategy")
    return [
        [phase.samples for phase in measure_phases(strategy, 16, connections, loop=loop, **changes)] for loop in Loop
    ]


def rows(samples: Samples, *names: str) -> list[tuple[int, ...]]:
    """Some columns, row by row."""
    return list(zip(*(getattr(samples, name).tolist() for name in names), strict=True))


DETERMINED = ("source", "target", "client", "errno", "tries", "port")
"""The columns without a time. Where the kernel chooses the port, it differs from run to run."""


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("spread", list(Spread))
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_both_make_the_same_attempts(name: str, spread: Spread, protocol: Protocol) -> None:
    """The same paths, tries and errors in each row; the same ports where the program draws them, else all ports.

    There are more attempts than ports. The windows are of one port, so that what is drawn decides which attempts fail.
    """
    strategy = spec(name, 1 if name in {"window", "partition"} else None)
    strategy = replace(strategy, load=Load(protocol=protocol))
    changes: dict[str, Any] = {"targets": TARGETS, "spread": spread}
    changes["sources"] = SOURCES if strategy.traits.chooses_source else SOURCES[:1]
    if protocol is Protocol.UDP:
        changes["listener"] = Listener.NONE
    (in_c,), (in_python,) = measured(strategy, 70, **changes)
    is_decided = strategy.traits.chooses_port or name in {"window", "partition"}
    decided = DETERMINED if is_decided else DETERMINED[:-1]
    assert rows(in_c, *decided) == rows(in_python, *decided)
    assert len(set(rows(in_c, "source", "target"))) > 1
    assert in_c.failed.any()
    space = ("source", "target") if strategy.has_ports_per_target else ("source",)
    assert sorted(rows(in_c, *space, "port")) == sorted(rows(in_python, *space, "port"))
    assert (in_c.prepare_ns + in_c.connect_ns <= in_c.acquire_ns).all()


@pytest.mark.parametrize("close", list(Close))
def test_both_replace_the_same_connections(close: Close) -> None:
    """The churn closes the connections of the same rows: the same drawn ports are free for the next attempts."""
    strategy = replace(spec("random"), load=Load(churn=Churn(12, close)))
    in_c, in_python = measured(strategy, 12)
    for one, other in zip(in_c, in_python, strict=True):
        assert rows(one, *DETERMINED) == rows(other, *DETERMINED)
    assert in_c[1].failed.any() == (close is Close.FIN)


def test_both_give_up_a_slow_attempt() -> None:
    """Every attempt takes longer than a nanosecond, so that none keeps its connection."""
    strategy = replace(spec("plain"), load=Load(give_up_ms=1e-6))
    (in_c,), (in_python,) = measured(strategy, 4)
    assert rows(in_c, *DETERMINED) == rows(in_python, *DETERMINED)
    assert in_c.failed.all()


def test_no_replacement_begins_before_its_turn() -> None:
    """In a paced churn of 500/s, each replacement begins 2 ms or more times its number after the churn's beginning."""
    strategy = replace(spec("plain"), load=Load(churn=Churn(10, rate=500.0)))
    for filled, churned in measured(strategy, 4):
        begins = int((filled.started_ns + filled.acquire_ns).max())
        late = [begun - begins - number * 2_000_000 for number, begun in enumerate(churned.started_ns.tolist())]
        assert min(late) >= 0
