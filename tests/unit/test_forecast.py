"""What inspect says of the next connect(): the ports that it probes, its time, and how many more find a port."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connbench.inspect.forecast import Forecast, Forecaster
from connbench.inspect.port_usage import PathUsage, usage
from connbench.inspect.snapshot import Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_words
from connbench.model import PortRange
from connbench.model.time_wait import TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL, USUAL_BEFORE, Calibration
from connbench.portmodel.kernel_search import EveryPort, ParityFirst
from connbench.portmodel.next_search import Half, next_search

PORTS = PortRange(20000, 20999)
EVEN, ODD = range(20000, 21000, 2), range(20001, 21000, 2)
TCP, UDP = 6, 17
ON_6_12, USUALLY = Settings(PORTS, kernel="6.12.1"), Forecaster()
CALIBRATION = replace(
    USUAL,
    sizes=(100.0, 1000.0),
    base_ns=(1000.0, 2000.0),
    port_ns=(10.0, 20.0),
    window_base_ns=(3000.0, 4000.0),
    new_port_ns=(30.0, 40.0),
    failure_ns=500.0,
)


def sockets(
    ports: range | list[int],
    state: State = State.ESTABLISHED,
    left_ms: int = -1,
    target: str = "10.1.2.3",
    protocol: int = TCP,
) -> Sockets:
    """Connections from these ports of 10.0.0.5 to port 443 of the target."""
    ends = {
        name: np.array([address_words(text)[1]] * len(ports), dtype=np.uint64).reshape(-1, 2)
        for name, text in (("local", "10.0.0.5"), ("remote", target))
    }
    many = np.ones(len(ports), dtype=np.int64)
    return Sockets.of(
        protocol=protocol * many,
        family=address_words(target)[0] * many,
        state=state * many,
        expires_ms=left_ms * many,
        local_port=np.array(ports),
        remote_port=443 * many,
        **ends,
    )


def listening(ports: list[int]) -> Sockets:
    """Listeners on all addresses."""
    return Sockets.of(protocol=[TCP] * len(ports), family=[4] * len(ports), state=[10] * len(ports), local_port=ports)


def forecasts(*parts: Sockets, settings: Settings = ON_6_12, forecaster: Forecaster = USUALLY) -> dict[str, Forecast]:
    """The forecasts of the fullest path, by strategy."""
    snapshot, path = fullest(*parts, settings=settings)
    return {one.strategy: one for one in forecaster.forecast(path, snapshot)}


def fullest(*parts: Sockets, settings: Settings) -> tuple[Snapshot, PathUsage]:
    """A snapshot of these sockets, and the path with the most ports in use."""
    snapshot = Snapshot(Sockets.concatenate(parts), settings)
    return snapshot, usage(snapshot).rows(1)[0]


def test_strategies_are_those_that_search_differently() -> None:
    """In the first half, of a path that has the even ports but ten."""
    found = forecasts(sockets(EVEN[10:]), forecaster=Forecaster(window=100))
    assert list(found) == ["plain", "window 100", "range"]
    plain, window, every = found.values()
    assert (plain.half, plain.until_knee, plain.until_exhaustion) == (Half.FIRST, 10, 510)
    assert plain.ports_probed == next_search(PORTS, EVEN[10:], ParityFirst).following
    assert 1 + 490 / 10 < plain.ports_probed < 1 + 490 / 2  # a run of 490 ports behind ten free ones, once each time
    for one in (window, every):
        assert (one.half, one.until_knee, one.until_exhaustion, one.failing) == (None, None, 510, 0)
    assert every.ports_probed == next_search(PORTS, EVEN[10:], EveryPort).following
    assert window.ports_probed == next_search(PORTS, EVEN[10:], EveryPort, 100).ports_probed


def test_the_second_half_probes_all_of_the_first() -> None:
    """No port until the knee is left, and each connect() probes 500 ports in vain."""
    found = forecasts(sockets(EVEN))["plain"]
    assert (found.half, found.ports_probed, found.failing) == (Half.SECOND, 501, 0)
    assert (found.until_knee, found.until_exhaustion) == (0, 500)


def test_an_old_kernel_has_a_knee_with_the_option_too() -> None:
    """Before 6.8 the option searches one parity first, in the range as in a window; before 4.6 there is no option."""
    of_6_1 = forecasts(sockets(EVEN), settings=Settings(PORTS, kernel="6.1.0-13-amd64"))
    plain, window, every = of_6_1.values()
    assert replace(every, strategy="plain", connect_ns=plain.connect_ns) == plain
    assert window.until_knee is None
    assert window.half is None
    assert window.ports_probed == pytest.approx((251 * 251 + 250 * 1) / 501)  # 251 windows begin at an even port
    assert list(forecasts(sockets(EVEN), forecaster=Forecaster(Algorithm.PRE_4_2))) == ["plain"]


def test_times_are_those_of_the_calibration() -> None:
    """A connection costs by the ports in use, and a port by those that a search passes between two probes of it."""
    plain, window, every = forecasts(
        sockets([*EVEN, *ODD]), forecaster=Forecaster(calibration=CALIBRATION, window=100)
    ).values()
    assert (plain.ports_probed, plain.failing, plain.connect_ns) == (1000, 1, 500 + 1000 * 20)
    assert (window.ports_probed, window.failing, window.connect_ns) == (100, 1, 500 + 100 * 40)
    assert (every.ports_probed, every.failing, every.connect_ns) == (1000, 1, 500 + 1000 * 40)
    hundred = forecasts(sockets(EVEN[:100]), forecaster=Forecaster(calibration=CALIBRATION, window=100))
    for name, base_ns, port_ns in (("plain", 1000, 10), ("range", 1000, 30), ("window 100", 3000, 30)):
        found = hundred[name]
        assert found.connect_ns == pytest.approx(base_ns + (found.ports_probed or 0) * port_ns)


@pytest.mark.parametrize(("kernel", "costs"), [("6.1.0", USUAL_BEFORE), ("6.18.2", USUAL), ("", USUAL)])
def test_times_without_a_calibration_are_the_usual_ones_of_the_kernel(kernel: str, costs: Calibration) -> None:
    """Before 6.15 a port costs several times as much."""
    settings = Settings(PORTS, kernel=kernel)
    assert forecasts(sockets(EVEN), settings=settings) == forecasts(
        sockets(EVEN), settings=settings, forecaster=Forecaster(calibration=costs)
    )


def test_reserved_ports_and_those_of_listeners_are_passed_over() -> None:
    """A reserved port and one that bind() took for every target cost a probe, and are not free."""
    settings = Settings(PORTS, frozenset({20000, 20001, 30000}), kernel="6.12")
    found = forecasts(sockets(EVEN[10:]), listening([20002, 20003, 30001]), settings=settings)["plain"]
    assert (found.until_knee, found.until_exhaustion) == (8, 506)
    assert found.ports_probed == next_search(PORTS, [20000, 20002, *EVEN[10:]], ParityFirst).following


@pytest.mark.parametrize(
    ("time_wait", "target", "left_ms", "is_taken"),
    [
        (TimeWait(reuse=1), "10.1.2.3", 58_900, True),
        (TimeWait(reuse=1), "10.1.2.3", 59_100, False),
        (TimeWait(reuse=1, delay_s=5), "10.1.2.3", 56_000, False),
        (TimeWait(reuse=1, has_timestamps=False), "10.1.2.3", 1_000, False),
        (TimeWait(reuse=1), "10.1.2.3", -1, True),
        (TimeWait(reuse=2), "10.1.2.3", 1_000, False),
        (TimeWait(reuse=2), "127.0.0.1", 1_000, True),
        (TimeWait(reuse=0), "127.0.0.1", 1_000, False),
    ],
)
def test_a_port_in_time_wait_is_free_if_the_kernel_reuses_it(
    time_wait: TimeWait, target: str, left_ms: int, is_taken: bool
) -> None:
    """All even ports are in use, 100 of them in TIME_WAIT: tcp_tw_reuse, the loopback and the delay decide."""
    settings = Settings(PORTS, time_wait=time_wait, kernel="6.18")
    waiting = sockets(EVEN[:100], State.TIME_WAIT, left_ms, target)
    found = forecasts(sockets(EVEN[100:], target=target), waiting, settings=settings)["plain"]
    assert found.until_knee == (100 if is_taken else 0)
    assert found.until_exhaustion == (600 if is_taken else 500)
    assert found.half is (Half.FIRST if is_taken else Half.SECOND)


def test_a_socket_in_fin_wait_is_not_reused() -> None:
    """Only TIME_WAIT is, though FIN-WAIT-2 without a process has a timer too."""
    settings = Settings(PORTS, time_wait=TimeWait(reuse=1), kernel="6.18")
    assert forecasts(sockets(EVEN, State.FIN_WAIT2, 1000), settings=settings)["plain"].until_knee == 0


def test_udp_has_neither_probes_nor_a_knee() -> None:
    """Only the ports that are left are known."""
    [found] = forecasts(sockets(EVEN, protocol=UDP)).values()
    assert found == Forecast("plain", None, None, None, None, None, 500)
