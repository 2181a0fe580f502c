"""A range of one port: what a program sees that has to keep its port, such as a proxy with its client's."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Churn, Close, Listener, Load, Phase, Reuse, RoundPlan
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.simulation import simulate
from connbench.strategies import STRATEGIES
from run_connbench import LOW, make_plan, measure, measure_phases, spec

pytestmark = pytest.mark.usefixtures("each_loop")

NAMES = [name for name, row in STRATEGIES.items() if all(map(is_supported, options_of(row)))]


def of_one_port(name: str) -> list[int]:
    """The errno with which a strategy fails that finds the only port in use."""
    return [errno.EADDRINUSE if STRATEGIES[name].binds_to_port else errno.EADDRNOTAVAIL]


@pytest.mark.parametrize("name", NAMES)
def test_the_second_connection_fails(name: str) -> None:
    """bind() to the port says EADDRINUSE, and connect() without another one EADDRNOTAVAIL; the model says the same."""
    strategy = spec(name, 1 if name in {"window", "partition"} else None)
    samples = measure(strategy, 1, 3).samples
    assert samples.port.tolist() == [LOW, 0, 0]
    assert samples.errno.tolist() == [0] + 2 * of_one_port(name)
    if strategy.traits.is_modelled:
        made = simulate(RoundPlan(make_plan(strategy, 1, 3), strategy, 1), Algorithm.FROM_6_8)[Phase.FILL]
        assert made.port.tolist() == [LOW, 0, 0]


@pytest.mark.parametrize("name", [name for name in ("plain", "early", "random", "range") if name in NAMES])
def test_a_churn_by_fin_leaves_the_port_in_time_wait(name: str) -> None:
    """No replacement gets the port that the first one closed; by reset each has it at once.

    The port is in TIME_WAIT when the acceptor has closed its end, which may be after the round.
    """
    strategy = spec(name, 1 if name in {"window", "partition"} else None)
    for close, errors in ((Close.FIN, of_one_port(name) * 3), (Close.RST, [0] * 3)):
        churning = replace(strategy, load=Load(churn=Churn(3, close)))
        filled, churned = measure_phases(churning, 1, 1, listener=Listener.ACCEPT)
        assert filled.samples.port.tolist() == [LOW]
        assert churned.samples.errno.tolist() == errors
        assert churned.rounds[0].report.time_wait <= (close is Close.FIN)


@pytest.mark.parametrize(("name", "reuse"), [("random", Reuse.ADDRESS), ("sequential", Reuse.PORT)])
def test_a_shared_port_is_taken_from_time_wait_at_once(name: str, reuse: Reuse) -> None:
    """connect() does not wait for tcp_tw_reuse where bind() has named the port.

    Until the other end has acknowledged the FIN the 4-tuple is in use, and the program tries again, but not for 60 s.
    """
    strategy = replace(spec(name, retries=10**6), reuse=reuse, load=Load(churn=Churn(3, Close.FIN)))
    _, churned = measure_phases(strategy, 1, 1, listener=Listener.ACCEPT)
    assert churned.samples.port.tolist() == [LOW] * 3


def test_a_shared_port_is_taken_before_the_other_end_has_closed() -> None:
    """Nobody accepts: the old connection, in CLOSE_WAIT, answers the SYN; it is reset, and the SYN is sent again."""
    strategy = replace(spec("random", retries=10**6), reuse=Reuse.ADDRESS, load=Load(churn=Churn(3, Close.FIN)))
    _, churned = measure_phases(strategy, 1, 1, listener=Listener.BACKLOG)
    assert churned.samples.port.tolist() == [LOW] * 3
    assert churned.rounds[0].report.counters["TcpExt.TCPSynRetrans"] == 3
