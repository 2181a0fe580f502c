"""Ports that the program names, and ports that bind() chooses: lists, strides and shared ports, on ranges of a few."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from connbench.linux.address_family import has_ipv6
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Churn, Close, Endpoint, Listener, Load, Loop, Placement, Reuse, Spread, StrategySpec
from connbench.results.result import Samples
from run_connbench import LOW, connbench, measure, measure_phases, spec

pytestmark = pytest.mark.usefixtures("each_loop")

PORTS = 8
TWO = (Endpoint("127.9.9.2", LOW - 1), Endpoint("127.9.9.3", LOW - 1))
ADDRESSES = {
    4: {},
    6: {"sources": ("2001:db8::1",), "targets": (Endpoint("2001:db8::2", LOW - 1),)},
}
"""Fields of a plan for each IP version."""

no_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6")


def placed(samples: Samples) -> list[int]:
    """The ports of the connections, counted from the lowest of the range, in the order of the attempts."""
    return [port - LOW for port in samples.port[~samples.failed].tolist()]


def shared(name: str, reuse: Reuse = Reuse.ADDRESS, **changes: Any) -> StrategySpec:  # noqa: ANN401  # any field of StrategySpec
    """A strategy whose sockets share ports."""
    return replace(spec(name), reuse=reuse, **changes)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("random", 4),
        ("window", 4),
        pytest.param("sequential", 6, marks=no_ipv6),
        pytest.param("range", 6, marks=no_ipv6),
    ],
)
def test_a_stride_leaves_every_fourth_port(name: str, family: int) -> None:
    """All ports with port % 4 = 3 are taken and no other; the attempt after that fails, however it names its port."""
    if not all(map(is_supported, options_of(spec(name).traits))):
        pytest.skip("this kernel lacks an option the strategy needs")
    strategy = replace(spec(name), stride=4, residue=3)
    if name == "window":
        strategy = replace(strategy, window=1, placement=Placement.INSIDE, retries=500)
    samples = measure(strategy, 16, 5, **ADDRESSES[family]).samples
    assert sorted(placed(samples)) == [3, 7, 11, 15]
    no_port = errno.EADDRINUSE if strategy.traits.chooses_port else errno.EADDRNOTAVAIL
    assert samples.errno.tolist() == [0] * 4 + [no_port]
    if name == "sequential":
        assert placed(samples) == [3, 7, 11, 15]


def test_a_window_of_a_stride_fails_where_its_port_is_in_use() -> None:
    """Without retries the strategy `window` draws one port, as it draws one window without a stride."""
    strategy = replace(spec("window", 1), stride=4, residue=1)
    samples = measure(strategy, 16, 12).samples
    assert set(placed(samples)) <= {1, 5, 9, 13}
    assert set(samples.errno.tolist()) == {0, errno.EADDRNOTAVAIL}
    assert samples.tries.max() == 1


@pytest.mark.parametrize("family", [4, pytest.param(6, marks=no_ipv6)])
def test_bind_takes_its_port_for_every_target(family: int) -> None:
    """bind() to port 0 chooses a port that no socket has, whatever target connect() will name."""
    host = "127.9.9.3" if family == 4 else "2001:db8::3"
    changes = {**ADDRESSES[family], "targets": (Endpoint(host, LOW - 1), Endpoint(host, LOW - 2))}
    samples = measure(spec("early"), PORTS, PORTS + 1, **changes).samples
    assert sorted(placed(samples)) == list(range(PORTS))
    assert placed(samples)[0] % 2 == 1
    assert samples.errno.tolist() == [0] * PORTS + [errno.EADDRINUSE]
    assert set(samples.target.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("ports", "reuse", "expected"),
    [(2, Reuse.ADDRESS, [1, 0]), (3, None, [1, 0]), (3, Reuse.ADDRESS, [1, 0]), (4, Reuse.ADDRESS, [1, 0, 3, 2])],
)
def test_bind_has_no_halves_below_four_ports(ports: int, reuse: Reuse | None, expected: list[int]) -> None:
    """SO_REUSEADDR changes nothing there.

    The search rounds the range down to an even number: of three ports it never finds the third.
    """
    samples = measure(replace(spec("early"), reuse=reuse), ports, len(expected) + 1).samples
    assert placed(samples) == expected
    assert samples.errno.tolist() == [0] * len(expected) + [errno.EADDRINUSE]


def test_only_reuse_of_addresses_halves_the_range() -> None:
    """With SO_REUSEPORT bind() to port 0 searches the whole range, as without it, and shares no port either."""
    samples = measure(shared("early", Reuse.PORT), PORTS, PORTS + 1, targets=TWO).samples
    assert [sorted(placed(samples)[:4]), sorted(placed(samples)[4:])] == [[1, 3, 5, 7], [0, 2, 4, 6]]
    assert samples.errno[-1] == errno.EADDRINUSE


@pytest.mark.parametrize(("reuse", "family"), [(Reuse.ADDRESS, 4), pytest.param(Reuse.PORT, 6, marks=no_ipv6)])
@pytest.mark.parametrize("name", ["random", "sequential"])
def test_a_port_is_shared_among_targets_and_taken_once_by_each(name: str, reuse: Reuse, family: int) -> None:
    """bind() succeeds on a port in use; connect() fails with EADDRNOTAVAIL where the 4-tuple is in use, not bind()."""
    host = "127.9.9.3" if family == 4 else "2001:db8::3"
    changes = {**ADDRESSES[family], "targets": (Endpoint(host, LOW - 1), Endpoint(host, LOW - 2))}
    samples = measure(shared(name, reuse), PORTS, 2 * PORTS + 2, **changes).samples
    for target in (0, 1):
        assert sorted(placed(samples.chosen(samples.target == target))) == list(range(PORTS))
    assert samples.errno.tolist() == [0] * 2 * PORTS + [errno.EADDRNOTAVAIL] * 2
    assert (samples.connect_ns > 0).all()  # each bind() succeeded
    assert (samples.tries[: 2 * PORTS].max() > 1) == (name == "random")


@pytest.mark.parametrize("name", ["random", "sequential"])
def test_connect_fails_where_bind_shares_a_port_in_vain(name: str) -> None:
    """Without retries an attempt at a port in use ends with the error of connect()."""
    samples = measure(shared(name, retries=0), 2, 8).samples
    assert set(samples.errno[2:].tolist()) <= {0, errno.EADDRNOTAVAIL}
    assert samples.failed.sum() >= 6
    assert (samples.connect_ns > 0).all()
    assert samples.tries.max() == 1


def test_each_path_has_a_list_where_ports_are_shared() -> None:
    """A list goes on for its own port space: that of a source, or that of a source and a target with shared ports."""
    sources = ("127.9.9.1", "127.9.9.4")
    alone = measure(spec("sequential"), PORTS, 8, sources=sources, targets=TWO).samples
    assert placed(alone) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert alone.tries.max() == 1
    together = measure(shared("sequential"), PORTS, 8, sources=sources, targets=TWO).samples
    assert placed(together) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert together.tries.max() == 1


@pytest.mark.parametrize("spread", Spread)
def test_a_list_of_each_source_begins_again(spread: Spread) -> None:
    """From --from on, over the end of the range to the port before it, for each source."""
    strategy = replace(spec("sequential"), first_port=LOW + 6)
    sources = ("127.9.9.1", "127.9.9.4")
    samples = measure(strategy, PORTS, 2 * PORTS, sources=sources, spread=spread).samples
    for source in (0, 1):
        assert placed(samples.chosen(samples.source == source)) == [6, 7, 0, 1, 2, 3, 4, 5]


def test_clients_begin_at_places_of_their_own() -> None:
    """Each client begins where the rows before it have left off, so that none meets the ports of another."""
    strategy = replace(spec("sequential"), load=Load(concurrency=4))
    samples = measure(strategy, PORTS, PORTS).samples
    assert samples.tries.tolist() == [1] * PORTS
    for client in range(4):
        assert placed(samples.chosen(samples.client == client)) == [2 * client, 2 * client + 1]


def test_a_list_goes_on_in_the_next_worker(each_loop: Loop) -> None:
    """Where RLIMIT_NOFILE ends a worker, the next one has the port after the last; bind() fails nowhere."""
    options = ("--strategy", "sequential", "--from", "40150", "-n", "200", "--port-range", "40000-40199")
    words = ("run", *options, "--format", "json", "--loop", each_loop.value)
    done = connbench(*words, inside=("--nofile", "100"))
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)["strategies"][0]["rounds"]
    assert len(told["workers"]) > 2
    assert told["samples"]["port"] == [*range(40150, 40200), *range(40000, 40150)]
    assert told["samples"]["tries"] == [1] * 200


@pytest.mark.parametrize("close", Close)
def test_a_churn_takes_the_next_port_not_the_one_that_it_frees(close: Close) -> None:
    """The program goes on in its list, and passes the ports in use or in TIME_WAIT: each try moves it by one port."""
    strategy = replace(spec("sequential"), load=Load(churn=Churn(4, close)))
    filled, churned = measure_phases(strategy, PORTS, 4, listener=Listener.ACCEPT)
    assert placed(filled.samples) == [0, 1, 2, 3]
    assert placed(churned.samples) == [4, 5, 6, 7]
    further = replace(strategy, load=Load(churn=Churn(40, Close.RST)))
    filled, churned = measure_phases(further, PORTS, 6, listener=Listener.ACCEPT)
    tries = np.concatenate((filled.samples.tries, churned.samples.tries))
    assert placed(filled.samples) + placed(churned.samples) == ((np.cumsum(tries) - 1) % PORTS).tolist()
    assert tries.max() > 1


@pytest.mark.parametrize("name", ["sequential", "random", "early"])
def test_ports_are_taken_alike_in_flight(name: str) -> None:
    """Sockets that do not block take the ports that those that block take."""
    load = Load(in_flight=4)
    samples = measure(replace(spec(name), load=load), PORTS, PORTS).samples
    assert sorted(placed(samples)) == list(range(PORTS))
    if name == "sequential":
        assert placed(samples) == list(range(PORTS))
        assert samples.tries.max() == 1
    if name == "early":
        assert {port % 2 for port in placed(samples)[: PORTS // 2]} == {1}
        return
    both = measure(shared(name, load=load), PORTS, 2 * PORTS, targets=TWO).samples
    for target in (0, 1):
        assert sorted(placed(both.chosen(both.target == target))) == list(range(PORTS))
