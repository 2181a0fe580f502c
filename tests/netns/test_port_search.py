"""The kernel's rules, as each strategy meets them on a range of a few ports."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from connbench.draws import MOST_DRAWS, Draws
from connbench.linux.sockopts import is_supported, options_of
from connbench.model import Endpoint, Listener, Reuse, RoundPlan, Spread, StrategySpec
from connbench.strategies import STRATEGIES
from run_connbench import LOW, make_plan, measure, needs_port_range, spec

pytestmark = pytest.mark.usefixtures("each_loop")

EXPECTED_WALK = os.environ.get("CONNBENCH_EXPECT_WALK")
"""Set where the kernel is known, as in the kernel lab's guests: `two-parity` or `one-by-one`."""


@pytest.mark.parametrize("name", ["plain", "bind"])
@pytest.mark.parametrize(("low", "first"), [(40000, 0), (40001, 1)])
def test_one_parity_is_used_up_before_the_other(name: str, low: int, first: int) -> None:
    """The kernel hands out the parity of the range's low end, then the other, then EADDRNOTAVAIL."""
    samples = measure(spec(name), 8, 9, low=low).samples
    parities = [port % 2 for port in samples.port.tolist()[:8]]
    assert parities == [first] * 4 + [1 - first] * 4
    assert sorted(samples.port.tolist()[:8]) == list(range(low, low + 8))
    assert samples.errno.tolist() == [0] * 8 + [errno.EADDRNOTAVAIL]
    assert samples.port[8] == 0


@pytest.mark.parametrize(("low", "first"), [(40000, 1), (40001, 0)])
def test_bind_begins_with_the_parity_that_connect_leaves_for_last(low: int, first: int) -> None:
    """bind() to port 0 hands out the parity that is not the low end's, then the other, then fails with EADDRINUSE."""
    samples = measure(spec("early"), 8, 9, low=low).samples
    assert [port % 2 for port in samples.port.tolist()[:8]] == [first] * 4 + [1 - first] * 4
    assert sorted(samples.port.tolist()[:8]) == list(range(low, low + 8))
    assert samples.errno.tolist() == [0] * 8 + [errno.EADDRINUSE]


def test_bind_with_reuse_address_begins_in_the_lower_half_of_the_range() -> None:
    """With SO_REUSEADDR bind() to port 0 hands out the lower half of the range first; it shares no port."""
    samples = measure(replace(spec("early"), reuse=Reuse.ADDRESS), 8, 9).samples
    ports = [port - LOW for port in samples.port.tolist()[:8]]
    assert [sorted(ports[begin : begin + 2]) for begin in range(0, 8, 2)] == [[1, 3], [0, 2], [5, 7], [4, 6]]
    assert samples.errno.tolist() == [0] * 8 + [errno.EADDRINUSE]


def test_a_list_of_ports_goes_on_behind_the_last_port() -> None:
    """Each attempt of `sequential` takes the next port; where all are in use, it tries each of them once."""
    samples = measure(replace(spec("sequential"), first_port=LOW + 6), 8, 9).samples
    assert [port - LOW for port in samples.port.tolist()[:8]] == [6, 7, 0, 1, 2, 3, 4, 5]
    assert samples.errno.tolist() == [0] * 8 + [errno.EADDRINUSE]
    assert samples.tries.tolist() == [1] * 8 + [8]


@pytest.mark.parametrize("name", ["random", "sequential"])
def test_sockets_share_a_port_for_several_targets(name: str) -> None:
    """With SO_REUSEADDR bind() succeeds on a port in use, and connect() fails only if its target has the port."""
    shared = replace(spec(name), reuse=Reuse.ADDRESS)
    targets = (Endpoint("127.9.8.1", 7), Endpoint("127.9.8.1", 8))
    samples = measure(shared, 8, 18, targets=targets, spread=Spread.FILL).samples
    failures = samples.errno.tolist()
    assert failures.count(0) == 16
    assert set(failures) == {0, errno.EADDRNOTAVAIL}
    both = sorted(zip(samples.target.tolist(), samples.port.tolist(), strict=True))
    assert [pair for pair in both if pair[1]] == [(t, port) for t in range(2) for port in range(LOW, LOW + 8)]


@needs_port_range
def test_range_uses_both_parities_from_the_start() -> None:
    """With the option the search goes from port to port over the range; before 6.8 in two parities, as without."""
    ports = measure(spec("range"), 64, 64).samples.port.tolist()
    assert sorted(ports) == list(range(LOW, LOW + 64))
    odd = sum(port % 2 for port in ports[:32])
    if EXPECTED_WALK == "two-parity":
        assert odd == 0
        return
    if EXPECTED_WALK is None and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8) and odd in {0, 32}:
        pytest.skip("this kernel's search has a parity bias with the option, too (before 6.8)")
    assert 8 <= odd <= 24


@needs_port_range
@pytest.mark.parametrize("clipped", [False, True])
def test_every_port_lies_in_its_own_window(clipped: bool) -> None:
    """The port of a connection lies in the window that was drawn for it."""
    strategy = spec("window", 5, clipped=clipped)
    samples = measure(strategy, 32, 24).samples
    windows = _windows(strategy, 32, 24)
    for port, (low, high) in zip(samples.port.tolist(), windows, strict=True):
        assert port == 0 or low <= port <= high
    assert set(samples.errno.tolist()) <= {0, errno.EADDRNOTAVAIL}
    assert sum(1 for port in samples.port if port) >= 12


@needs_port_range
def test_a_full_window_fails_without_retries_and_succeeds_with_them() -> None:
    """--retries draws further windows, and only after EADDRNOTAVAIL."""
    plain = measure(spec("window", 2), 32, 32).samples
    retried = measure(spec("window", 2, retries=500), 32, 32).samples
    assert plain.failed.any()
    assert plain.tries.max() == 1
    assert not retried.failed.any()
    assert retried.tries.max() > 1
    assert sorted(retried.port.tolist()) == list(range(LOW, LOW + 32))


@needs_port_range
def test_retries_are_bounded() -> None:
    """An attempt in a full range gives up after one try and --retries more."""
    samples = measure(spec("window", 2, retries=3), 4, 6, seed=7).samples
    failed = samples.tries[samples.failed]
    assert len(failed) >= 2
    assert set(failed.tolist()) == {4}


@needs_port_range
def test_partition_fills_one_window_after_the_other() -> None:
    """The range is cut into windows, the last one narrower, and each is used up before the next."""
    samples = measure(spec("partition", 4), 10, 11).samples
    ports = samples.port.tolist()
    assert [sorted(ports[0:4]), sorted(ports[4:8]), sorted(ports[8:10])] == [
        [40000, 40001, 40002, 40003],
        [40004, 40005, 40006, 40007],
        [40008, 40009],
    ]
    assert samples.errno[10] == errno.EADDRNOTAVAIL


def test_random_draws_until_every_port_is_taken() -> None:
    """A userspace random port is drawn again on EADDRINUSE; in a full range as often as `random` draws by default."""
    samples = measure(spec("random"), 64, 66).samples
    assert sorted(samples.port.tolist()[:64]) == list(range(LOW, LOW + 64))
    assert samples.tries.max() > 1
    assert samples.errno.tolist()[64:] == [errno.EADDRINUSE] * 2
    assert samples.tries.tolist()[64:] == [MOST_DRAWS] * 2
    assert samples.connect_ns.tolist()[64:] == [0, 0]


def test_random_makes_all_its_retries_in_a_full_range() -> None:
    """The bound that was asked for holds: 1 + --retries tries, and no fewer."""
    samples = measure(spec("random", retries=5), 4, 8).samples
    failed = samples.tries[samples.failed]
    assert len(failed) >= 4
    assert set(failed.tolist()) == {6}


def test_random_gives_up_after_its_retries() -> None:
    """--retries 0 makes a taken port an error at once."""
    samples = measure(spec("random", retries=0), 16, 16).samples
    assert samples.failed.any()
    assert samples.tries.max() == 1
    assert set(samples.errno[samples.failed].tolist()) == {errno.EADDRINUSE}


@needs_port_range
@pytest.mark.parametrize("strategy", [spec("random"), spec("window", 3, retries=2), spec("window", 4, clipped=True)])
def test_the_same_seed_draws_the_same(strategy: StrategySpec) -> None:
    """The seed decides the outcomes of the first tries, and the ports of `random`."""
    one, same, other = (measure(strategy, 64, 40, seed=seed).samples for seed in (5, 5, 6))
    if strategy.name == "random":
        assert one.port.tolist() == same.port.tolist()
        assert one.port.tolist() != other.port.tolist()
    else:
        windows = _windows(strategy, 64, 40, seed=5)
        for samples in (one, same):
            at_first = samples.tries == 1
            for port, (low, high) in zip(samples.port[at_first], np.array(windows)[at_first], strict=True):
                assert port == 0 or low <= port <= high


@pytest.mark.parametrize("listener", [Listener.BACKLOG, Listener.ACCEPT])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_acquiring_takes_at_least_preparing_and_connecting(name: str, listener: Listener) -> None:
    """Whatever strategy and listener: acquire_ns >= prepare_ns + connect_ns, and starts are in order."""
    if not all(map(is_supported, options_of(STRATEGIES[name]))):
        pytest.skip("this kernel lacks an option the strategy needs")
    strategy = spec(name, 8 if name in {"window", "partition"} else None)
    result = measure(strategy, 40, 40, listener=listener)
    samples = result.samples
    assert len(samples) == 40
    assert (samples.acquire_ns >= samples.prepare_ns + samples.connect_ns).all()
    assert (samples.started_ns[1:] >= samples.started_ns[:-1] + samples.acquire_ns[:-1]).all()
    assert (samples.connect_ns[~samples.failed] > 0).all()
    report = result.rounds[0].report
    assert report.established == 40 - samples.failed.sum()


def _windows(strategy: StrategySpec, ports: int, attempts: int, seed: int = 1) -> list[tuple[int, int]]:
    """The windows drawn for first tries, calculated again from the seed."""
    draws = Draws.of(RoundPlan(make_plan(strategy, ports, attempts, seed=seed), strategy, 1))
    return [(number & 0xFFFF, number >> 16) for number in map(draws.number, range(attempts))]
