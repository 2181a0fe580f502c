"""UDP in reports, findings and charts: its latency is acquire time, and nothing of TCP is mentioned."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

from connbench.analysis.soundness import RETRANSMISSION_COUNTERS, findings
from connbench.model import Load, PortRange, Protocol
from connbench.model.round_report import OVERFLOW_COUNTERS
from connbench.report import run_report
from connbench.report.charts import KINDS
from connbench.report.charts.canvas import Options
from connbench.report.html.page import html_page
from connbench.report.prometheus import prometheus
from connbench.report.run_report import markdown
from connbench.report.series import latency_name, series_of
from connbench.results.result import DatagramSamples, Result, Round, Samples
from factories import BIND, PLAIN, PLAN, result_of, round_of, samples_of

UDP = replace(BIND, load=Load(protocol=Protocol.UDP))
SAID = "UDP: latency is acquire time, for bind(), or connect() of an unbound socket, holds the port search"
HUNDRED_PORTS = replace(PLAN, port_range=PortRange(9024, 9123))


def datagrams(samples: Samples) -> Round:
    """The attempts as those of UDP."""
    return round_of(DatagramSamples(**samples.columns))


def run_of(search_ns: Sequence[int], **columns: Sequence[int]) -> Result:
    """UDP sockets with these times of bind(), and connect() 1 µs each."""
    samples = samples_of([1_000] * len(search_ns), prepare_ns=search_ns, **columns)
    return result_of({UDP: [datagrams(samples)]}, HUNDRED_PORTS)


def test_text_says_once_that_latency_is_acquire_time() -> None:
    """A line says so, and instead of the same times again a table has the tries alone."""
    report = run_report.text(run_of([2_000] * 100, tries=[1, 3] * 50))
    assert report.count(SAID) == 1
    assert "\nall      100  3.00 µs" in report
    assert "\ntries  mean  max\nall    2.00    3\n" in report
    assert "\nacquire" not in report
    assert "UDP" not in run_report.text(result_of({BIND: [round_of(samples_of([1_000] * 100))]}))


def test_outliers_are_counted_and_placed() -> None:
    """The report counts attempts above a hundred times the median, and those before the range was nearly full.

    The failed attempt in the middle takes no port, so that the hundredth attempt meets 98 ports in use.
    """
    search = [2_000] * 100
    search[10] = search[98] = search[99] = 1_000_000
    report = run_report.text(run_of(search, errno=[errno.EAGAIN if i == 50 else 0 for i in range(100)]))
    line = "outliers: 3 attempts (3.00%) took more than 100 x the median, 300 µs"
    assert f"\n{line}; 1 of them with less than 95% of the range in use\n" in report
    assert "outliers" not in run_report.text(run_of([2_000] * 100))


def test_nothing_of_tcp_is_found_in_udp() -> None:
    """Counters of listeners and SYNs, timers and the table of established connections do not concern UDP."""
    result = run_of([2_000] * 50 + [2_000_000_000] * 50)
    [measured] = result.rounds[UDP]
    moved = dict.fromkeys((*OVERFLOW_COUNTERS, *RETRANSMISSION_COUNTERS), 5)
    report = replace(measured.report, counters=moved, settings={"net.ipv4.tcp_ehash_entries": "16"})
    result.rounds[UDP] = [replace(measured, report=report)]
    assert findings(result) == []
    of_tcp = {BIND: [replace(round_of(samples_of([2_000_000_000] * 100)), report=report)]}
    assert {f.code for f in findings(result_of(of_tcp))} >= {"listener-overflow", "syn-retransmission", "slow-connect"}


def test_table_of_established_connections_holds_no_udp() -> None:
    """Connects that slowly grow while that table is overfull are a finding of TCP, and none of UDP."""
    growing = samples_of([10_000 + 100 * i for i in range(100)])
    for measured, spec, codes in ((round_of(growing), BIND, ["hash-table"]), (datagrams(growing), UDP, [])):
        report = replace(measured.report, settings={"net.ipv4.tcp_ehash_entries": "16"})
        assert [f.code for f in findings(result_of({spec: [replace(measured, report=report)]}))] == codes


def test_page_markdown_and_metrics_say_it_too() -> None:
    """The other formats say the same."""
    result = run_of([2_000] * 100)
    assert SAID in html_page([result])
    assert "- bind, UDP: UDP: latency is acquire time" in markdown(result)
    assert "Of UDP the acquire time." in prometheus(result)


def test_axes_are_named_after_what_they_show() -> None:
    """A chart of UDP alone has acquire time along its axis; beside TCP it has both names."""
    udp, tcp = run_of([2_000] * 100), result_of({PLAIN: [round_of(samples_of([10_000] * 100))]})
    assert [latency_name(series_of(r)) for r in ([tcp], [udp])] == ["latency", "acquire time"]
    assert latency_name(series_of([tcp, udp]), "latency of connect()") == "latency of connect(); of UDP acquire time"
    [scatter] = KINDS["scatter"](series_of([udp]), Options()).axes
    assert scatter.get_ylabel() == "acquire time"
    [utilisation] = KINDS["utilisation"](series_of([udp]), Options()).axes
    assert utilisation.get_ylabel() == "acquire time"
    assert utilisation.get_title("left") + utilisation.get_title() == "Rolling median and p99 of acquire time"
    of_tcp, of_udp = KINDS["histogram"](series_of([tcp, udp]), Options()).axes
    assert (of_tcp.get_xlabel(), of_udp.get_xlabel()) == ("latency of connect()", "acquire time")
