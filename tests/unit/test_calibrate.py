"""`connbench calibrate`: a machine's costs are found again, saved, read back, named and compared with another's."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.calibrate.plans import measured_plans
from connbench.calibrate.report import calibration_blocks
from connbench.commands.calibration_files import calibrate_from, warn_of_other_machine
from connbench.errors import InputError, UsageError
from connbench.model import PortRange, Protocol
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL, Calibration, Machine, calibrate
from connbench.portmodel.calibration_file import calibration_document, read_calibration
from connbench.portmodel.prediction import Pair, predict
from connbench.report.json import json_document
from connbench.report.text import write
from connbench.results.result import Result, Round, StrategyResult
from factories import PLAN, unhurried
from run_connbench import spec

WHOLE = replace(PLAN, port_range=PortRange(20000, 28191))
"""Of 8,192 ports."""

MACHINE = Machine("Xeon", "6.18.1", "2026-11-28T12:00:00+00:00")
ENVIRONMENT: dict[str, object] = {"cpu_model": MACHINE.cpu, "kernel": MACHINE.kernel, "time": MACHINE.time}

SIZES = np.array([1024.0, 2048.0, 4096.0, 8192.0])


PREDICTIONS = lru_cache(lambda: [p for plan in measured_plans(WHOLE) for p in predict(plan, Algorithm.FROM_6_8)])
"""What the model says of each plan that is measured; it is the same for every machine."""


def measured(law: Calibration) -> list[Pair]:
    """What `connbench calibrate` measures on a machine with these costs, beside the model."""
    pairs = []
    for one in PREDICTIONS():
        samples = law.samples(one)
        pairs.append(Pair(StrategyResult(one.plan.strategy, (Round(1, samples),), one.capacity), ((one, samples),)))
    return pairs


def costs(low: float, high: float) -> st.SearchStrategy[list[float]]:
    """The costs at each size, the higher the larger it is."""
    return st.lists(st.floats(low, high), min_size=len(SIZES), max_size=len(SIZES)).map(sorted)


@settings(unhurried, max_examples=20)
@given(st.tuples(costs(2_000, 30_000), costs(20, 300), costs(2_000, 30_000), costs(20, 300)), st.floats(500, 3_000))
def test_costs_of_a_machine_are_found_again(curves: tuple[list[float], ...], failure: float) -> None:
    """Wherever its caches end: at half of each range, and of the whole range also where all ports are in use."""
    law = replace(USUAL.with_curves(SIZES, np.array(curves)), failure_ns=failure)
    found = calibrate(measured(law), Protocol.TCP, "")
    assert found is not None
    for in_use in SIZES:
        assert found.port_ns_at(in_use) == pytest.approx(law.port_ns_at(in_use), rel=0.1)
        # Up to 11 % off, and 39 % that of a window, where a port costs ten times as much at the next size.
        assert found.base_ns_at(in_use) == pytest.approx(law.base_ns_at(in_use), rel=0.2)
    for in_use in (2048, 8192):
        assert found.at(in_use, found.window_base_ns) == pytest.approx(law.at(in_use, law.window_base_ns), rel=0.5)
    assert found.at(8192, found.new_port_ns) == pytest.approx(law.at(8192, law.new_port_ns), rel=0.1)
    assert found.failure_ns == pytest.approx(failure, rel=0.2)
    assert found.largest == 8192


def test_ranges_double_up_to_the_whole_one() -> None:
    """Nothing is extrapolated: the whole range is measured, however small it is, and each window has its ports."""
    for ports, sizes in ((8192, [2048, 4096, 8192]), (5000, [2048, 4096, 5000]), (2048, [2048]), (30, [30])):
        plans = list(measured_plans(replace(WHOLE, port_range=PortRange(20000, 20000 + ports - 1))))
        searches = [plan for plan in plans if plan.strategies[0].name == "plain"]
        assert [len(plan.port_range) for plan in searches] == sizes
        assert searches[-1].strategies[0].load.profile is not None
        assert searches[-1].strategies[0].load.profile.levels[-1] == 1
        for plan in plans:
            [one] = plan.strategies
            assert plan.connections == len(plan.port_range)
            assert one.window is None or 1 <= one.window <= max(1, len(plan.port_range) // 8)


LAW = replace(USUAL, residual=0.02, machine=MACHINE)


def written(folder: Path, text: str, name: str = "machine.json") -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_calibration_is_read_back(tmp_path: Path) -> None:
    """As it was, but for its origin, which is the file now; a result is no calibration."""
    path = written(tmp_path, calibration_document(LAW))
    assert calibrate_from((path,), Protocol.TCP) == replace(LAW, origin=str(path))
    assert read_calibration(json_document(Result(PLAN, {})).encode(), "x") is None
    assert read_calibration(b"[" * 100_000, "x") is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": 2}, "is a calibration with schema 2; connbench .* reads 1"),
        ({"sizes": []}, "not a sound calibration: it has not 1 to 64 sizes"),
        ({"port_ns": [1.0]}, "not a sound calibration: it has not 1 to 64 sizes"),
        ({"sizes": [4.0, 3.0, 5.0, 6.0]}, "its sizes do not ascend"),
        ({"sizes": [0.0, 3.0, 5.0, 6.0]}, "its sizes do not ascend"),
        ({"failure_ns": -1.0}, "a cost is not between 0 and a second"),
        ({"port_ns": [1.0, 2.0, 3.0, 1e300]}, "a cost is not between 0 and a second"),
        ({"machine": {"cpu": "x" * 201, "kernel": None, "time": None}}, "has more than 200 characters"),
        ({"base_ns": "much"}, "not a sound calibration: Expected `array`"),
    ],
)
def test_a_changed_calibration_is_refused(change: dict[str, object], fault: str, tmp_path: Path) -> None:
    """With what is wrong, and how to get another one."""
    document = json.loads(calibration_document(LAW))
    (document if "schema" in change else document["calibration"]).update(change)
    path = written(tmp_path, json.dumps(document))
    with pytest.raises(InputError, match=fault) as raised:
        calibrate_from((path,), Protocol.TCP)
    assert "connbench calibrate -o FILE" in raised.value.hint


def test_a_calibration_stands_alone_and_has_no_udp(tmp_path: Path) -> None:
    """Costs are not mixed with others, and those of another protocol are not guessed."""
    path, other = (written(tmp_path, calibration_document(LAW), name) for name in ("a.json", "b.json"))
    with pytest.raises(UsageError, match=r"a\.json is a calibration, and needs no other file"):
        calibrate_from((path, other), Protocol.TCP)
    with pytest.raises(UsageError, match="too few UDP connections"):
        calibrate_from((path,), Protocol.UDP)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (ENVIRONMENT, ""),
        ({**ENVIRONMENT, "kernel": "6.18.9-other"}, ""),
        ({}, ""),
        ({**ENVIRONMENT, "cpu_model": "EPYC"}, "another machine than run.json: Xeon, not EPYC"),
        ({**ENVIRONMENT, "kernel": "6.1.0"}, "another machine than run.json: Linux 6.18.1, not 6.1.0"),
    ],
)
def test_another_machine_is_pointed_out(
    environment: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its CPU and by X.Y of its kernel, as far as both are known."""
    warn_of_other_machine(LAW, environment, "run.json")
    printed = capsys.readouterr().err
    assert words in printed
    assert ("connbench calibrate -o FILE" in printed) == bool(words)


def test_the_report_shows_each_size_and_what_follows() -> None:
    """By hand: half of 8,192 ports at 44 ns each, after 13 µs."""
    lines = write(calibration_blocks(LAW, WHOLE, "machine.json", ())).splitlines()
    assert lines[0].startswith("calibration: Xeon, Linux 6.18.1, 2026-11-28, range 20000-28191")
    assert lines[2].split() == ["4,096", "13.0", "µs", "13.0", "µs", "44", "ns", "48", "ns"]
    assert "connect() of plain probes 4,096 ports and takes 193 µs." in lines[-2]
    assert lines[-1] == "Next: connbench predict --strategy plain --calibrate machine.json"
    assert spec("plain").label in lines[-1]
