"""From what bpftrace prints to what `connbench trace` prints; its lines here are as bpftrace 0.17 wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from connbench.trace.bpftrace import environment
from connbench.trace.counts import (
    MAX_KEYS,
    TICK,
    CgroupPaths,
    Latency,
    LatencyCounts,
    Maps,
    OffsetCounts,
    ParityCounts,
    read_line,
)
from connbench.trace.program import Probes, Trace, program
from connbench.trace.report import as_json, as_text
from connbench.trace.trace_metrics import TraceCollector

PARITY_LINES = rb"""{"type": "attached_probes", "data": {"probes": 8}}

{"type": "hist", "data": {"@took": {"0": [{"min": 32768, "max": 65535, "count": 3}, {"min": 65536, "max": 131071, "count": 1}], "1": [{"min": 65536, "max": 131071, "count": 2}], "2": [{"min": 131072, "max": 262143, "count": 1}]}}}
{"type": "map", "data": {"@total": {"1": 200000, "0": 260000, "2": 150000}}}
{"type": "map", "data": {"@errors": {"99": 1}}}
{"type": "map", "data": {"@failed": {"1,158,python": 1}}}
{"type": "map", "data": {"@bound": {"7,90,a\",b\\": 1}}}
{"type": "map", "data": {"@all_bound": {"0": 1}}}
{"type": "map", "data": {"@ports": {"1,158,0,python": 2, "1,158,1,python": 2, "7,90,0,a\",b\\": 1}}}
{"type": "map", "data": {"@all_ports": {"0": 3, "1": 2}}}
{"type": "map", "data": {"@switches": {"1,158,python": 1}}}
{"type": "map", "data": {"@all_switches": {"0": 1}}}
{"type": "map", "data": {"@switches_of": {"1,python": 1, "7,a\",b\\": 0}}}
{"type": "printf", "data": "tick\n"}
"""  # noqa: E501  # its lines are as long as they are


def parity() -> ParityCounts:
    """The counts of the lines above."""
    maps: Maps = {}
    said = [read_line(line, maps) for line in PARITY_LINES.split(b"\n")]
    assert [text for text in said if text] == [TICK]
    return ParityCounts.of(maps)


def no_name(number: int) -> str:
    """A cgroup's id."""
    return f"id {number}"


def test_counts_of_parity() -> None:
    """A process's name may have commas and quotes in it: the keys are still read; totals are the maps' own."""
    counts = parity()
    assert (counts.even, counts.odd, counts.switches, counts.bound, counts.failed) == (3, 2, 1, 1, 1)
    python, other = sorted(counts.processes, key=lambda process: process.cgroup)
    assert (python.comm, python.pid, python.even, python.odd, python.switches, python.failed) == (
        "python",
        158,
        2,
        2,
        1,
        1,
    )
    assert (other.comm, other.pid, other.even, other.bound, other.switches) == ('a",b\\', 90, 1, 1, 0)
    assert counts.latency.even == Latency(260000, {65535: 3, 131071: 1})


def test_text_of_parity() -> None:
    """Totals, then the processes that switched most; no table before anything was counted."""
    assert as_text(parity(), 12.04, no_name) == (
        "5 ports chosen in 12.0 s: 3 even, 2 odd, 1 switch\n"
        "chosen by bind() before: 1, failed: 1, EADDRNOTAVAIL 1\n"
        "\n"
        "process     even  odd  switches  bound  failed  cgroup\n"
        "158 python     2    2         1      0       1  id 1\n"
        '90 a",b\\       1    0         0      1       0  id 7'
    )
    assert as_text(ParityCounts.of({}), 0, no_name).splitlines() == [
        "0 ports chosen in 0.0 s: 0 even, 0 odd, 0 switches",
        "chosen by bind() before: 0, failed: 0",
    ]


def test_a_long_trace_tells_its_hours() -> None:
    """After a day nobody divides seconds by 3,600."""
    assert as_text(LatencyCounts.of({}), 108_000, no_name) == "0 connect() in 30 h 0 min"


def test_table_of_parity_keeps_to_80_columns() -> None:
    """Numbers and names come first; the rest of the width has the end of the cgroup's path, with a mark for the cut."""
    slow = {f"7,{4194000 + number},{parity},fifteen-letters": 28256 for number in range(3) for parity in (0, 1)}
    *_, row = as_text(ParityCounts.of({"ports": slow}), 1, lambda _: f"/system.slice/{'0' * 40}.scope").splitlines()
    assert len(row) == 80
    assert row.split()[-1].startswith("…0")
    assert row.endswith("0.scope")


def test_json_of_parity() -> None:
    """One line: totals, processes, histograms in ns, errors by name."""
    line = as_json(parity(), 1.0, no_name, is_final=True)
    document = json.loads(line)
    assert "\n" not in line
    assert document.items() >= {"trace": "parity", "final": True, "even": 3, "switches": 1, "is_full": False}.items()
    assert document["latency"]["odd"] == {"count": 2, "total_ns": 200000, "buckets": [{"max_ns": 131071, "count": 2}]}
    assert document["processes"][1]["cgroup_name"] == "id 7"


def test_a_full_map_is_reported() -> None:
    """Beyond the processes that are kept apart, the table says that it is not complete."""
    counts = ParityCounts.of({"ports": {f"1,{pid},0,curl": 1 for pid in range(MAX_KEYS)}, "all_ports": {"0": 99999}})
    assert counts.even == 99999
    assert counts.is_full
    text = as_text(counts, 1, no_name)
    assert "the table is not complete" in text
    assert text.endswith("and 16,369 more")


def test_text_of_latency() -> None:
    """Each outcome's figures, and the histograms side by side; bucket ends stand for percentiles."""
    assert as_text(parity().latency, 3, no_name) == (
        "7 connect() in 3.0 s, EADDRNOTAVAIL 1\n"
        "\n"
        "latency  n     mean    p50 <   p99 <   max <\n"
        "even     4  65.0 µs  65.5 µs  131 µs  131 µs\n"
        "odd      2   100 µs   131 µs  131 µs  131 µs\n"
        "failed   1   150 µs   262 µs  262 µs  262 µs\n"
        "\n"
        "took       even  odd  failed\n"
        "< 65.5 µs     3    0       0\n"
        "< 131 µs      1    2       0\n"
        "< 262 µs      0    0       1"
    )
    assert as_text(LatencyCounts.of({}), 1, no_name) == "0 connect() in 1.0 s"


def test_text_of_offsets() -> None:
    """Where searches began and ended, for the ten thousands that have any."""
    line = b'{"type": "hist", "data": {"@starts": {"0": [{"min": 50000, "max": 59999, "count": 2}, {"min": 60000, "max": 69999, "count": 1}]}}}'  # noqa: E501  # as it came
    maps: Maps = {"bound": {"0": 4}}
    read_line(line, maps)
    assert as_text(OffsetCounts.of(maps), 2, no_name) == (
        "3 searches for a port in 2.0 s\n"
        "chosen by bind() before: 4, failed: 0\n"
        "\n"
        "ports        begun  chosen\n"
        "50000-59999      2       0\n"
        "60000-65535      1       0"
    )


def test_connects_that_were_lost_are_reported() -> None:
    """The kernel reports no return while it watches as many as it can: text, JSON and metrics count such calls."""
    maps: Maps = {"lost": {"0": 1234}}
    told = "lost: 1,234 (the kernel did not report their return)"
    for counts in (LatencyCounts.of(maps), ParityCounts.of(maps), OffsetCounts.of(maps)):
        assert told in as_text(counts, 1, no_name).splitlines()
        assert json.loads(as_json(counts, 1, no_name, is_final=True))["lost"] == 1234
        registry = CollectorRegistry()
        registry.register(TraceCollector(counts, no_name))
        assert "connect_lost_total 1234.0" in generate_latest(registry).decode().splitlines()


def test_metrics() -> None:
    """Prometheus gets cumulative buckets in seconds, switches by name and cgroup, and ports by parity."""
    registry = CollectorRegistry()
    registry.register(TraceCollector(parity(), no_name))
    lines = generate_latest(registry).decode().splitlines()
    assert 'connect_port_parity_switches_total{cgroup="id 1",comm="python"} 1.0' in lines
    assert r'connect_port_parity_switches_total{cgroup="id 7",comm="a\",b\\"} 0.0' in lines
    assert 'connect_ports_total{parity="even"} 3.0' in lines
    assert 'connect_latency_seconds_bucket{le="6.5536e-05",outcome="even"} 3.0' in lines
    assert 'connect_latency_seconds_bucket{le="0.000131072",outcome="even"} 4.0' in lines
    assert 'connect_latency_seconds_count{outcome="even"} 4.0' in lines
    assert 'connect_latency_seconds_sum{outcome="odd"} 0.0002' in lines
    assert 'connect_failures_total{errno="EADDRNOTAVAIL"} 1.0' in lines


def test_switches_of_a_service_that_was_started_again_are_one_series() -> None:
    """A new cgroup has a new id and the old name: two samples of one name would be a fault to Prometheus."""
    maps: Maps = {"switches_of": {"7,nginx": 3, "8,nginx": 2}}
    registry = CollectorRegistry()
    registry.register(TraceCollector(ParityCounts.of(maps), lambda _: "/system.slice/nginx.service"))
    lines = generate_latest(registry).decode().splitlines()
    samples = [line for line in lines if line.startswith("connect_port_parity_switches_total{")]
    assert [sample.rpartition(" ")[2] for sample in samples] == ["5.0"]


def test_metrics_of_offsets() -> None:
    """Besides where searches begin and end: calls that searched no port, and searches without success."""
    maps: Maps = {"bound": {"0": 4}, "failed": {"0": 3}}
    registry = CollectorRegistry()
    registry.register(TraceCollector(OffsetCounts.of(maps), no_name))
    lines = generate_latest(registry).decode().splitlines()
    assert {"connect_bound_ports_total 4.0", "connect_search_failures_total 3.0"} <= set(lines)


def test_metrics_count_switches_of_processes_that_are_not_kept_apart() -> None:
    """A process that appears when the map of processes is full still counts in the counter that alerts use."""
    maps: Maps = {
        "ports": {f"1,{pid},0,curl": 1 for pid in range(MAX_KEYS)},
        "switches_of": {"1,curl": 0, "7,nginx": 2},
    }
    registry = CollectorRegistry()
    registry.register(TraceCollector(ParityCounts.of(maps), no_name))
    lines = generate_latest(registry).decode().splitlines()
    assert 'connect_port_parity_switches_total{cgroup="id 7",comm="nginx"} 2.0' in lines


@pytest.mark.parametrize("trace", Trace)
def test_programs_suit_the_kernel(trace: Trace) -> None:
    """Without IPv6 none of its functions is watched; kfunc probes name their arguments."""
    everything = frozenset(
        {"tcp_v4_connect", "tcp_v6_connect", "tcp_connect", "__inet_check_established", "__inet6_check_established"}
    )
    whole = program(trace, everything)
    assert "\nkprobe:tcp_v6_connect,\nkprobe:tcp_v4_connect\n" in whole
    without = program(trace, everything - {"tcp_v6_connect", "__inet6_check_established"})
    probes = [line for line in without.splitlines() if line.startswith(("kprobe", "kretprobe"))]
    assert probes
    assert not any("6" in line or "," in line for line in probes)
    trampolines = program(trace, everything, Probes.KFUNC)
    assert "\nkretfunc:tcp_v4_connect\n" in trampolines
    assert "kprobe" not in trampolines
    assert "arg0" not in trampolines


@pytest.mark.parametrize(
    ("release", "is_told"), [("5.10.0-46-amd64", True), ("5.11", False), ("6.1.0-56-amd64", False), ("4.18.0", True)]
)
def test_bpftrace_gets_the_headers_of_an_old_kernel(release: str, is_told: bool) -> None:
    """Before 5.11 bpftrace finds no types by itself, and needs the kernel's headers."""
    assert ("BPFTRACE_BTF" in environment(release)) == is_told


def test_cgroups_are_named_by_their_folder(tmp_path: Path) -> None:
    """The id is the folder's inode; the root is /, and the id of a removed one stays a number."""
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "system.slice" / "nginx.service").mkdir(parents=True)
    inner = (tmp_path / "system.slice" / "nginx.service").stat().st_ino
    cgroups = CgroupPaths((tmp_path / "none", tmp_path))
    cgroups.learn({tmp_path.stat().st_ino, inner, 0})
    assert cgroups.name(inner) == "/system.slice/nginx.service"
    assert cgroups.name(tmp_path.stat().st_ino) == "/"
    assert cgroups.name(0) == "id 0"
