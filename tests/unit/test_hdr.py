"""Latencies as HdrHistograms: what the reference reader of Python makes of them."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from connbench.analysis.summary import summarize
from connbench.errors import ExitCode, UsageError
from connbench.model import Load, Profile, StrategySpec
from connbench.report.hdr import DIGITS, HIGHEST_NS, hgrm, hlog
from connbench.results.fleet_file import Fleet, HostRecord
from connbench.results.result import Origin, Result, Round
from factories import BIND, PLAIN, result_of, round_of, samples_of
from run_connbench import HANG_S, in_process

SPREAD = np.geomspace(5_000, 5_000_000, 400).astype(int).tolist()
CLOSE = 10**-DIGITS
"""How far a histogram's value may be from the latency."""


def a_round(number: int = 1, epoch_us: int = 0) -> Round:
    """400 attempts: even and odd ports in turn, and each tenth failed."""
    errno = [99 if row % 10 == 9 else 0 for row in range(400)]
    made = round_of(samples_of(SPREAD, errno=errno), number)
    return replace(made, report=replace(made.report, epoch_us=epoch_us))


def merged(log: str, tmp_path: Path) -> dict[str, HdrHistogram]:
    """The intervals of a log by tag, added up as its readers do."""
    path = tmp_path / "x.hlog"
    path.write_text(log, encoding="utf-8")
    reader = HistogramLogReader(str(path), HdrHistogram(1, HIGHEST_NS, DIGITS))
    sums: dict[str, HdrHistogram] = defaultdict(lambda: HdrHistogram(1, HIGHEST_NS, DIGITS))
    while (interval := reader.get_next_interval_histogram()) is not None:
        sums[interval.get_tag()].add(interval)
    reader.close()
    return dict(sums)


def test_distribution_has_the_summarys_percentiles() -> None:
    """Of all attempts of the one strategy, failed ones too; in ns, with three digits."""
    result = result_of({PLAIN: [a_round(), a_round(2)]})
    rows = [line.split() for line in hgrm(result).splitlines()[2:] if not line.startswith("#")]
    for value, share, *_ in rows:
        assert float(value) == pytest.approx(np.percentile(SPREAD, 100 * float(share)), rel=0.04)  # two are 2 % apart
    assert rows[-1][2] == "800"


HDR_PLOT = """
import sys, types
sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")  # which setuptools 82 no longer has
from hdr_plot.hdr_plot import main
main()
"""


def test_hdr_plot_draws_the_distribution(tmp_path: Path) -> None:
    """It takes the rows, and from the two lines behind them mean, maximum and count, by the words that wrk2 prints."""
    source, picture = tmp_path / "x.hgrm", tmp_path / "x.png"
    source.write_text(hgrm(result_of({PLAIN: [a_round()]})), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", HDR_PLOT, "--noversion", "--units", "ns", "--output", str(picture)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_histogram_is_of_one_strategy(tmp_path: Path) -> None:
    """Several are refused before anything is measured, with the format that has them all."""
    two = result_of({PLAIN: [a_round()], BIND: [a_round()]})
    with pytest.raises(UsageError, match=r"one histogram, and this result has 2 strategies") as caught:
        hgrm(two)
    assert "--format hlog" in caught.value.hint
    file = tmp_path / "x.json"
    refused = in_process("run", "--strategy", "plain,bind", "--format", "hgrm", "-o", str(file))
    assert (refused.returncode, refused.stdout, file.exists()) == (ExitCode.USAGE, "", False)


def test_log_has_a_tag_for_each_strategy_and_parity(tmp_path: Path) -> None:
    """The intervals of all rounds add up to the attempts; logs one behind the other add up, too."""
    result = result_of({PLAIN: [a_round(), a_round(2)], BIND: [a_round()]})
    sums = merged(hlog(result), tmp_path)
    assert set(sums) == {f"{name}/{part}" for name in ("plain", "bind") for part in ("even", "odd", "failed")}
    for strategy in result.strategies:
        for part, group in (("even", summarize(strategy).even), ("failed", summarize(strategy).errored)):
            histogram = sums[f"{strategy.strategy.label}/{part}"]
            assert histogram.get_total_count() == group.latency.count
            assert histogram.get_max_value() == pytest.approx(group.latency.maximum, rel=CLOSE)
            assert histogram.get_mean_value() == pytest.approx(group.latency.mean, rel=CLOSE)
    twice = merged(hlog(result) * 2, tmp_path)
    assert twice["bind/odd"].get_total_count() == 2 * sums["bind/odd"].get_total_count()


def test_intervals_stand_in_the_order_of_their_time() -> None:
    """Since 1970, as the engine recorded it: the begin of the first attempt, and how long until the last outcome."""
    later, earlier = a_round(epoch_us=1_796_000_060_000_000), a_round(epoch_us=1_796_000_000_000_000)
    version, start, legend, *lines = hlog(result_of({PLAIN: [later], BIND: [earlier]})).splitlines()
    assert version == "#[Histogram log format version 1.3]"
    assert start.startswith("#[StartTime: 1796000000.000 (seconds since epoch), 2026-11-30 ")
    assert legend.startswith('"StartTimestamp"')
    tags = [line.partition(",")[0] for line in lines]
    assert tags == [f"Tag={name}/{part}" for name in ("bind", "plain") for part in ("even", "odd", "failed")]
    tag, begin, length, longest, _ = lines[0].split(",")
    even = earlier.samples.chosen(earlier.samples.even)
    assert (tag, float(begin)) == ("Tag=bind/even", 1_796_000_000)
    assert float(length) == pytest.approx(even.wall_ns / 1e9, abs=1e-6)
    assert float(longest) == pytest.approx(even.latency_ns.max() / 1e6, abs=1e-6)


def test_hosts_and_levels_are_in_the_tag(tmp_path: Path) -> None:
    """Of a fleet the host stands first; of a profile a level stands for the parity."""
    hosts = [HostRecord(name, replace(result_of({PLAIN: [a_round()]}), name=name), None) for name in ("web1", "a,b c")]
    sums = merged(hlog(Fleet(tuple(hosts))), tmp_path)
    assert {tag.rpartition("/")[0] for tag in sums} == {"web1/plain", "a_b_c/plain"}
    profile = StrategySpec("plain", load=Load(profile=Profile((0.5, 1.0), 200)))
    levels = merged(hlog(result_of({profile: [a_round()]})), tmp_path)
    assert {tag: one.get_total_count() for tag, one in levels.items()} == {"plain/50%": 200, "plain/100%": 200}


def test_no_attempt_and_fractions(tmp_path: Path) -> None:
    """A result without an attempt has an empty log; fractions of a ns, as of a talk CSV, are rounded."""
    assert len(hlog(result_of({PLAIN: [round_of(samples_of([]))]})).splitlines()) == 3
    talk = Result(None, {}, origin=Origin.TALK_CSV)
    talk.add(PLAIN, Round(1, samples_of([1]).of(connect_ns=np.array([1000.4]), port=np.array([9025], "H"))))
    assert merged(hlog(talk), tmp_path)["plain/odd"].get_max_value() == 1000
    days = result_of({PLAIN: [round_of(samples_of([2 * 10**14]))]})
    assert float(hgrm(days).splitlines()[2].split()[0]) == pytest.approx(2e14, rel=CLOSE)
