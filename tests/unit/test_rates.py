"""What changed on a path between two dumps."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connbench.inspect.inspection import inspect
from connbench.inspect.rates import Comparison, Rates
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets
from connbench.model import PortRange

SETTINGS = Settings(PortRange(40000, 40009))
TARGETS = (1, 2)
"""Two IPv4 addresses."""

Connections = Mapping[tuple[int, int], int]
"""The cookie of each connection, by its target and local port; 0 if the kernel did not say it."""


def dump(connections: Connections, taken_at: float = 0.0, namespace: str = "") -> Snapshot:
    """A dump of TCP connections from one source."""
    sockets = Sockets.of(
        protocol=[6] * len(connections),
        family=[4] * len(connections),
        state=[1] * len(connections),
        remote=np.array([(0, target) for target, _ in connections], dtype=np.uint64).reshape(-1, 2),
        local_port=[port for _, port in connections],
        remote_port=[443] * len(connections),
        cookie=list(connections.values()),
    )
    return Snapshot(sockets, SETTINGS, namespace=namespace, taken_at=taken_at)


def rates(*dumps: Connections, most_rows: int | None = None) -> dict[int, Rates | None]:
    """The rates of the last of several dumps, one every 2 s, by the last number of the target's address."""
    comparison = Comparison()
    for i, connections in enumerate(dumps):
        rows = inspect([dump(connections, 2.0 * i)], most_rows, comparison).rows
    return {int(row.path.target.rpartition(".")[2]): row.rates for row in rows}


def test_the_first_dump_has_no_rates() -> None:
    """There is nothing to compare with."""
    assert rates({(1, 40000): 7}) == {1: None}


def test_each_path_has_its_own() -> None:
    """Opened and gone are counted for each path; one without a change has zeros, and a new path opened all."""
    assert rates(
        {(1, 40000): 1, (1, 40001): 2, (2, 40000): 3},
        {(1, 40001): 2, (1, 40002): 4, (1, 40003): 5, (2, 40000): 3, (3, 40000): 6},
    ) == {1: Rates(2.0, 2, 1), 2: Rates(2.0, 0, 0), 3: Rates(2.0, 1, 0)}


def test_a_port_with_another_connection_was_opened() -> None:
    """The cookie tells the connections apart; without cookies they are the same."""
    assert rates({(1, 40000): 1}, {(1, 40000): 2}) == {1: Rates(2.0, 1, 1)}
    assert rates({(1, 40000): 0}, {(1, 40000): 0}) == {1: Rates(2.0, 0, 0)}


def test_paths_that_were_not_shown_are_compared() -> None:
    """A path that comes among the fullest is compared with what it had before."""
    first = {(1, 40000): 1, (1, 40001): 2, (2, 40000): 3}
    assert rates(first, {(2, 40000 + i): 3 + i for i in range(4)}, most_rows=1) == {2: Rates(2.0, 3, 0)}


def test_only_the_dump_before_is_kept() -> None:
    """What was there two dumps ago is new again."""
    assert rates({(1, 40000): 1}, {}, {(1, 40000): 1}) == {1: Rates(2.0, 1, 0)}


def test_namespaces_are_compared_each() -> None:
    """The same 4-tuple lives in two of them; one that was not there before has no rates."""
    comparison = Comparison()
    inspect([dump({(1, 40000): 1}, 0.0, "a")], comparison=comparison)
    found = inspect([dump({(1, 40000): 5}, 1.0, "a"), dump({(1, 40000): 1}, 1.0, "b")], comparison=comparison)
    assert {row.path.namespace: row.rates for row in found.rows} == {"a": Rates(1.0, 1, 1), "b": None}


connections_of_two_targets = st.dictionaries(
    st.tuples(st.sampled_from(TARGETS), st.integers(40000, 40009)), st.integers(0, 30), max_size=20
)


@given(connections_of_two_targets, connections_of_two_targets)
def test_opened_without_gone_is_the_growth(before: Connections, after: Connections) -> None:
    """Whatever came and went: the difference is that of the sizes, and neither is more than there are."""
    for target, found in rates(before, after).items():
        assert found is not None
        had, has = (sum(1 for where, _ in one if where == target) for one in (before, after))
        assert found.opened - found.gone == has - had
        assert 0 <= found.opened <= has
        assert 0 <= found.gone <= had


@given(connections_of_two_targets, st.randoms())
def test_what_stays_is_neither_opened_nor_gone(connections: Connections, order: Random) -> None:
    """Two dumps of the same connections have no rates, in whatever order the kernel lists them."""
    first = {key: number if cookie else 0 for number, (key, cookie) in enumerate(connections.items(), start=1)}
    second = dict(order.sample([*first.items()], len(first)))
    assert {*rates(first, second).values()} <= {Rates(2.0, 0, 0)}
