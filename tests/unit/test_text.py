"""The default report: its content, and that it stays within a terminal of 80 columns."""

from __future__ import annotations

import errno
import re
from dataclasses import replace

import pytest

from connbench.analysis.knee import find_knee
from connbench.errors import Interrupted, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Endpoint, Link, Listener, Load, Namespace, Plan, PortRange, Protocol, Reuse, StrategySpec
from connbench.report import run_report
from connbench.report.blocks import Verdict
from connbench.report.run_report import closing_blocks, header, strategy_blocks
from connbench.report.run_verdict import run_verdict
from connbench.report.text import write
from connbench.results.result import Origin, Result, Round, Samples
from connbench.samples import UNKNOWN_ERRNO
from connbench.wording import fold
from factories import BIND, ENVIRONMENT, LONG, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of, too_wide

SLOWEST_NS = 5_000_123_456
NOTE = Finding("host-namespace", Severity.WARNING, "measuring in the host's network namespace (why)", "run as root")


def run_of(spec: StrategySpec, *rounds: Samples) -> Result:
    """A result of one strategy."""
    return result_of({spec: [round_of(samples, number) for number, samples in enumerate(rounds, 1)]})


def line_with(report: str, start: str) -> str:
    """The one line with this beginning."""
    [line] = [line for line in report.splitlines() if line.startswith(start)]
    return line


def cells(report: str, table: str, row: str) -> dict[str, str]:
    """A row of a table by the names of its columns; table and row are named by their first cell."""
    lines = report.splitlines()
    top = next(i for i, line in enumerate(lines) if line.startswith(table + "  "))
    found = next(line for line in lines[top + 1 :] if line.startswith(row + "  "))
    return dict(zip(_split(lines[top]), _split(found), strict=True))


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


MIXED = samples_of(
    [10_000, 20_000, 30_000, 400_000, 0],
    prepare_ns=[1000, 1000, 1000, 1000, 2000],
    errno=[0, 0, 0, errno.EADDRNOTAVAIL, errno.EADDRINUSE],
    tries=[1, 1, 2, 1, 3],
)


def test_block_is_header_six_lines_tables_and_facts() -> None:
    """A strategy's block has its parts in reading order, a blank line between."""
    result = run_of(BIND, samples_of([10_000, 20_000, 30_000]))
    header, *lines = write(strategy_blocks(result, result.strategies[0])).splitlines()
    assert header == (
        "bind: Linux 6.8.0-test, range 9024-65535, 127.9.9.1 -> 127.9.9.2:9023, "
        "own network namespace, backlog listener, loop C, seed 1"
    )
    assert lines == [
        "connection attempts: 3 errored: 0 total: 3",
        "total time: 0.0s",
        "latency min: 0.01ms max: 0.03ms avg: 0.02ms",
        "even ports: 2 latency min: 0.01ms max: 0.03ms avg: 0.02ms",
        "odd ports: 1 latency min: 0.02ms max: 0.02ms avg: 0.02ms",
        "",
        "latency  n     mean      p50      p90      p99  p99.9      max",
        "all      3  20.0 µs  20.0 µs  28.0 µs  29.8 µs      -  30.0 µs",
        "even     2  20.0 µs  20.0 µs  28.0 µs  29.8 µs      -  30.0 µs",
        "odd      1  20.0 µs  20.0 µs  20.0 µs  20.0 µs      -  20.0 µs",
        "",
        "acquire     mean      p99  tries mean  tries max",
        "all      21.0 µs  30.8 µs        1.00          1",
        "even     21.0 µs  30.8 µs        1.00          1",
        "odd      21.0 µs  21.0 µs        1.00          1",
        "",
        "wall time: 63.0 µs, 21.0 µs an attempt; 3 open at the end",
        "harness floor: 0.6 µs",
    ]


@pytest.mark.parametrize(("count", "p999"), [(999, "-"), (1000, "7.00 µs")])
def test_p999_is_printed_from_a_thousand_samples_on(count: int, p999: str) -> None:
    """The column p99.9 has a dash until there are 1,000 samples for it."""
    assert cells(run_report.text(run_of(BIND, samples_of([7000] * count))), "latency", "all")["p99.9"] == p999


def test_group_without_an_attempt_has_no_row() -> None:
    """Tables leave out what the six lines show as infinite."""
    report = run_report.text(run_of(BIND, samples_of([7000], port=[9025])))
    assert [line.split()[0] for line in report.splitlines() if line.endswith(" µs")] == ["all", "odd", "harness"]


def test_a_failure_of_connect_on_a_shared_port_is_told_from_one_of_bind() -> None:
    """Where sockets share ports bind() says nothing of a port in use; the line says who does."""
    failing = samples_of([9000, 400_000], errno=[0, errno.EADDRNOTAVAIL])
    shared = "errors: EADDRNOTAVAIL 1; bind() shared the port, and connect() found the 4-tuple in use"
    assert line_with(run_report.text(run_of(replace(RANDOM, reuse=Reuse.ADDRESS), failing)), "errors: ") == shared
    assert line_with(run_report.text(run_of(BIND, failing)), "errors: ") == "errors: EADDRNOTAVAIL 1"


def test_failures_are_reported_by_name_and_number() -> None:
    """Errors are listed by the name of their errno, and the failed attempts have a row in both tables."""
    report = run_report.text(run_of(RANDOM, MIXED))
    assert line_with(report, "errors: ") == "errors: EADDRINUSE 1, EADDRNOTAVAIL 1"
    assert cells(report, "latency", "errored") == {
        "latency": "errored",
        "n": "2",
        "total": "402 µs",
        "mean": "201 µs",
        "p50": "201 µs",
        "p90": "360 µs",
        "p99": "396 µs",
        "p99.9": "-",
        "max": "400 µs",
    }
    assert cells(report, "acquire", "errored")["tries mean"] == "2.00"
    assert cells(report, "acquire", "all")["tries max"] == "3"


def test_header_is_one_line_for_a_pipe() -> None:
    """Without a width nothing is folded, however long."""
    result = result_of({LONG: [round_of(MIXED), round_of(MIXED, 2)]}, replace(PLAN, namespace=Namespace.USER))
    assert header(result, LONG) == (
        "window 10000 clipped, 1000 retries: Linux 6.8.0-test, range 9024-65535, 127.9.9.1 -> 127.9.9.2:9023, "
        "own user and network namespace, backlog listener, loop C, seed 1, 2 rounds"
    )


def test_header_names_a_link_that_is_not_the_loopback() -> None:
    """The link stands beside the namespace."""
    result = result_of({BIND: [round_of(MIXED)]}, replace(PLAN, link=Link.VETH, delay_ms=2.0))
    assert ", own network namespace, veth link, 2 ms delay, backlog listener, " in header(result, BIND)


def test_header_names_a_hash_table_of_the_rounds_own() -> None:
    """Its entries stand beside the namespace."""
    result = result_of({BIND: [round_of(MIXED)]}, replace(PLAN, ehash_entries=1 << 22))
    assert ", own network namespace, established-hash table of 4,194,304 entries, " in header(result, BIND)


def test_folded_header_says_the_same_in_lines() -> None:
    """A width folds the header between words, later lines indented."""
    result = run_of(LONG, MIXED)
    lines = fold(header(result, LONG), 80).split("\n")
    assert len(lines) > 1
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == header(result, LONG)


def test_plain_has_the_kernels_source() -> None:
    """`plain` binds to no address, so the header names none for it."""
    assert "range 9024-65535, kernel's source -> 127.9.9.2:9023" in header(run_of(PLAIN, MIXED), PLAIN)


def test_floor_is_left_out_where_nothing_connected() -> None:
    """Without a connection there is no harness floor to print."""
    measured = round_of(MIXED)
    without = replace(measured, report=replace(measured.report, workers=()))
    assert "harness floor" not in run_report.text(result_of({RANDOM: [without]}))


def test_rounds_show_their_totals_and_the_median() -> None:
    """With several rounds, the report has each one's total time and their median."""
    report = run_report.text(run_of(BIND, *(samples_of([n * 1_000_000] * 10) for n in (3, 1, 2))))
    assert line_with(report, "total time by round") == "total time by round: 30.0 ms, 10.0 ms, 20.0 ms; median 20.0 ms"


def test_single_round_has_no_median() -> None:
    """One round's total is in the six lines already."""
    assert "by round" not in run_report.text(run_of(BIND, MIXED))


def test_closing_table_compares_with_plain_by_acquire_time() -> None:
    """With several strategies a table has the cost of a connection, the comparison, and errors with their share."""
    failing = samples_of([999_000] * 400, errno=[0, 0, 0, errno.EADDRNOTAVAIL] * 100)
    random = samples_of([9_000] * 400, prepare_ns=[91_000] * 400)
    result = result_of(
        {PLAIN: [round_of(samples_of([9_999_000] * 400))], WINDOW: [round_of(failing)], RANDOM: [round_of(random)]}
    )
    assert write(closing_blocks(result)).splitlines()[:5] == [
        "strategy    acquire  vs plain  connect()  errors  errors, %",
        "random       100 µs  100.00 x    9.00 µs       0       0.0%",
        "window 500  1.33 ms    7.50 x    1.33 ms     100      25.0%",
        "plain       10.0 ms    1.00 x    10.0 ms       0       0.0%",
        (
            "acquire and connect(): the time of all attempts, failed ones too, divided by the connections made; "
            "vs plain: how many times as fast as plain by acquire"
        ),
    ]


def test_names_that_a_reader_looks_for_can_be_bold() -> None:
    """The strategy above its block and the verdict, each at the beginning of a line; nothing else changes."""
    result = result_of({BIND: [round_of(MIXED)], WINDOW: [round_of(MIXED)]})
    plain, bold = run_report.text(result, 80), run_report.text(result, 80, bold=True)
    stressed = re.findall(r"^\x1b\[1m(.*?)\x1b\[0m", bold, re.MULTILINE)
    assert stressed == ["bind:", "window 500:", "verdict:"]
    assert re.sub(r"\x1b\[[01]m", "", bold) == plain
    assert "\x1b" not in plain


def test_equal_findings_of_several_strategies_are_one() -> None:
    """The finding names the strategies, in Markdown too."""
    rounds = {spec: [round_of(samples_of([SLOWEST_NS] * 4))] for spec in (PLAIN, BIND, RANDOM)}
    result = result_of(rounds)
    line = line_with(write(closing_blocks(result)), "warning: ")
    assert line == "warning: plain, bind and random: 4 connect() took more than 0.9 s"
    assert run_report.markdown(result).count("took more than 0.9 s") == 1


def test_single_strategy_has_nothing_to_close_with() -> None:
    """One strategy, no findings: after its block stands the verdict alone."""
    result = run_of(BIND, MIXED)
    assert write(closing_blocks(result)) == ""
    block, verdict = write(strategy_blocks(result, result.strategies[0])), write([Verdict(run_verdict(result))])
    assert run_report.text(result) == f"{block}\n\n{verdict}"


def test_several_rounds_are_compared_by_their_median() -> None:
    """The closing table of several rounds has the median round's figures, and says so."""
    slow, fast = samples_of([9_000_000] * 10), samples_of([999_000] * 10)
    rounds = [round_of(samples, number) for number, samples in enumerate((slow, fast, fast), 1)]
    comparison = write(closing_blocks(result_of({PLAIN: rounds, BIND: rounds})))
    assert cells(comparison, "strategy", "plain")["acquire"] == "1.00 ms"
    assert "of the median round" in comparison


def test_strategy_without_an_attempt_has_dashes_in_the_comparison() -> None:
    """A strategy that broke before its first attempt is listed, without a ratio or a share."""
    broken = round_of(samples_of([]), fault=RunFault("socket() failed"))
    comparison = write(closing_blocks(result_of({PLAIN: [round_of(MIXED)], BIND: [broken]})))
    row = cells(comparison, "strategy", "bind")
    assert (row["vs plain"], row["errors, %"]) == ("-", "-")


def test_findings_stand_before_the_verdict_with_their_advice() -> None:
    """A finding is a line with its severity and a line of advice; findings do not scroll the verdict away."""
    result = result_of({BIND: [round_of(MIXED)]}, known=(NOTE,))
    found = "warning: measuring in the host's network namespace (why)\n  -> run as root"
    assert run_report.text(result).endswith(f"\n\n{found}\n\n{write([Verdict(run_verdict(result))])}")


def test_finding_printed_before_is_not_printed_again() -> None:
    """The closing lines leave out a finding that was printed before the run."""
    assert write(closing_blocks(result_of({BIND: [round_of(MIXED)]}, known=(NOTE,)), (NOTE,))) == ""


def test_partial_round_is_found_out_in_the_report() -> None:
    """An interrupted run's report says how much of the plan it has."""
    result = result_of({BIND: [round_of(MIXED, fault=Interrupted(2))]})
    result.plan = replace(PLAN, strategies=(BIND,), connections=9)
    assert (
        line_with(run_report.text(result), "warning: ") == "warning: bind: partial, 5 of 9 attempts: stopped by SIGINT"
    )


def test_empty_round_is_reported_within_80_columns() -> None:
    """A round without an attempt has a report too."""
    report = run_report.text(run_of(LONG, samples_of([])), 80)
    assert "connection attempts: 0 errored: 0 total: 0" in report
    assert too_wide(report) == []


@pytest.mark.parametrize("spec", [PLAIN, WINDOW, LONG], ids=lambda spec: spec.label)
def test_block_of_a_million_attempts_fits_80_columns(spec: StrategySpec) -> None:
    """Counts of a million, latencies of seconds and the longest names stay within 80 columns."""
    number = 1_000_000
    failed = [errno.EADDRNOTAVAIL if i % 2 else errno.EINPROGRESS if i % 4 else 0 for i in range(number)]
    samples = samples_of([SLOWEST_NS] * number, errno=failed, tries=[1001] * number)
    result = result_of(
        {spec: [round_of(samples)]},
        replace(
            PLAN,
            seed=2**32 - 1,
            sources=("198.51.100.101",),
            targets=(Endpoint("198.51.100.102", 65535),),
            namespace=Namespace.USER,
            listener=Listener.EXTERNAL,
        ),
    )
    result.environment["kernel"] = "6.8.0-1021-azure-fde-with-a-local-version"
    report = run_report.text(result, 80)
    assert "1,000,000" in report
    assert too_wide(report) == []


@pytest.mark.parametrize("number", [2, 5, 10, 100])
def test_report_of_many_rounds_fits_80_columns(number: int) -> None:
    """The totals of any number of rounds stay within 80 columns."""
    report = run_report.text(run_of(WINDOW, *[samples_of([12_340_000] * 10)] * number), 80)
    assert "total time by round: 123 ms" in report
    assert too_wide(report) == []


@pytest.mark.parametrize(
    "specs",
    [
        (PLAIN, BIND, RANDOM, WINDOW),
        (PLAIN, LONG, StrategySpec("random", retries=1000)),
        (LONG, StrategySpec("random", retries=1000)),
        (StrategySpec("random", retries=3), replace(LONG, window=500, retries=3)),
    ],
    ids=lambda specs: specs[0].label,
)
@pytest.mark.parametrize("rounds", [1, 3])
def test_comparison_fits_80_columns(specs: tuple[StrategySpec, ...], rounds: int) -> None:
    """The closing table stays within 80 columns, with long labels and with several rounds too."""
    result = result_of({spec: [round_of(MIXED, number + 1) for number in range(rounds)] for spec in specs})
    assert too_wide(write(closing_blocks(result), 80)) == []


def test_findings_fit_80_columns() -> None:
    """Long findings and their advice are folded, later lines indented."""
    fault = RunFault("socket() failed at attempt 1000000 with EMFILE (Too many open files)", "raise it " * 20)
    measured = round_of(samples_of([SLOWEST_NS] * 100), fault=fault)
    report = replace(
        measured.report, counters={"TcpExt.ListenOverflows": 10**6, "TcpExt.ListenDrops": 10**6}, steal=0.5
    )
    long = Finding("x", Severity.WARNING, "a message of many words " * 9, "advice of many words " * 9)
    result = result_of({LONG: [replace(measured, report=report)]}, known=(long,))
    closing = write(closing_blocks(result), 80)
    assert closing.count("\n  -> ") == len(write(closing_blocks(result)).splitlines()) / 2 > 4
    assert too_wide(closing) == []


def test_environment_is_not_needed_but_for_the_kernel() -> None:
    """The report names the kernel, and accepts any other record, or none."""
    result = run_of(BIND, MIXED)
    result.environment = {"kernel": ENVIRONMENT["kernel"]}
    assert run_report.text(result).startswith("bind: Linux 6.8.0-test, ")


def file_of(origin: Origin, *rounds: Samples, name: str = "folder/x.csv", kernel: str | None = None) -> Result:
    """The part of these rounds of `bind` that a CSV contains."""
    result = Result(None, {"kernel": kernel} if kernel else {}, origin=origin, name=name)
    for number, samples in enumerate(rounds, 1):
        result.add(BIND, Round(number, samples))
    return result


def test_own_csv_has_all_figures_but_the_runs() -> None:
    """Attempts alone have six lines, both tables and a wall time, but no plan, floor and open connections."""
    result, run = (
        file_of(Origin.CSV, samples_of([10_000, 20_000, 30_000])),
        run_of(BIND, samples_of([10_000, 20_000, 30_000])),
    )
    report = run_report.text(result).removesuffix(f"\n\n{write([Verdict(run_verdict(result))])}")
    assert report.splitlines() == [
        "bind: kernel unknown, connbench CSV folder/x.csv",
        *write(strategy_blocks(run, run.strategies[0])).splitlines()[1:-2],
        "wall time: 63.0 µs, 21.0 µs an attempt",
        "",
        "note: folder/x.csv: a connbench CSV contains only the attempts, not where or how soundly they were measured",
        "  -> read the run's .json instead: it contains everything",
    ]


def test_talk_csv_has_no_acquire_times() -> None:
    """The author's file has latencies alone: the report invents neither acquire times nor a wall time."""
    samples = samples_of([10_000, 20_000], errno=[0, UNKNOWN_ERRNO])
    report = run_report.text(file_of(Origin.TALK_CSV, samples, kernel="6.1.75"))
    assert report.startswith("bind: Linux 6.1.75, talk CSV folder/x.csv\nconnection attempts: 2 errored: 1 total: 1\n")
    assert line_with(report, "errors: ") == "errors: unknown 1"
    assert not any(line.startswith(("acquire", "wall time", "harness")) for line in report.splitlines())


def test_csv_of_several_rounds_says_how_many() -> None:
    """Without a plan the report counts the rounds, and leaves the share of an unknown range out of the knee."""
    steps = samples_of([10_000] * 100 + [50_000] * 100, port=[9024] * 200)
    report = run_report.text(file_of(Origin.CSV, steps, steps))
    assert report.splitlines()[0] == "bind: kernel unknown, connbench CSV folder/x.csv, 2 rounds"
    assert line_with(report, "knee: ") == "knee: connection 101, from there on above 3 x 10.0 µs"


def test_csv_of_a_long_name_fits_80_columns() -> None:
    """Header and findings of a file with a path are folded between words, as all others."""
    name = " ".join(["a folder of many words"] * 6) + "/1700000000-6.8.0-1021-azure.csv"
    assert too_wide(run_report.text(file_of(Origin.TALK_CSV, MIXED, name=name), 80)) == []


RANGE, UDP = StrategySpec("range"), replace(BIND, load=Load(protocol=Protocol.UDP))


@pytest.mark.parametrize(
    ("spec", "kernel", "plan", "is_seen"),
    [
        (BIND, "6.18.0", PLAN, False),
        (PLAIN, "5.10.0", PLAN, False),
        (BIND, "6.18.0", replace(PLAN, port_range=PortRange(9024, 9223)), False),  # just half
        (BIND, "6.18.0", replace(PLAN, port_range=PortRange(9024, 9211)), True),
        (BIND, "6.18.0", replace(PLAN, port_range=PortRange(9024, 9123), sources=("127.9.9.1", "127.9.9.2")), True),
        (BIND, "6.18.0", replace(PLAN, port_range=PortRange(9024, 9243), reserved=40), True),
        (BIND, "6.18.0", replace(PLAN, port_range=PortRange(9024, 9243), reserved=20), False),
        (RANGE, "6.7.12", PLAN, False),
        (RANGE, "6.8.0", PLAN, True),
        (RANDOM, "5.10.0", PLAN, True),
        (UDP, "5.10.0", PLAN, True),
    ],
)
def test_knee_that_too_few_ports_in_use_hide_is_not_said_to_be_none(
    spec: StrategySpec, kernel: str, plan: Plan, is_seen: bool
) -> None:
    """Up to half of the ports of each source a search by parity is fast, so the report claims no missing knee."""
    flat = result_of({spec: [round_of(samples_of([10_000] * 100))]}, plan)
    flat.environment["kernel"] = kernel
    ports = len(plan.port_range) - plan.reserved
    few = f"{100 / ports:.1%} of the range in use"
    far = "" if find_knee(flat.strategies[0]).shows_half else f" up to {few}"
    expected = f"none{far}, the rolling" if is_seen else f"cannot be seen, only {few}"
    assert line_with(run_report.text(flat), "knee: ").startswith(f"knee: {expected}")
    cell = "| none" if is_seen else f"| not seen ({100 / ports:.1%} in use)"
    assert cell in run_report.markdown(flat)


@pytest.mark.parametrize(
    ("host", "plan", "words"),
    [
        ("32768 60999", PLAN, "range 9024-65535 (the host's is 32768-60999), "),
        ("9024\t65535", PLAN, "range 9024-65535 (the host's), "),
        ("9024 65535", replace(PLAN, reserved=1000), "range 9024-65535 (the host's; 1,000 of its ports reserved), "),
        ("1 x", replace(PLAN, reserved=1), "range 9024-65535 (1 of its ports reserved), "),
        (None, PLAN, "range 9024-65535, "),
    ],
)
def test_header_names_the_recorded_hosts_range_beside_the_runs(host: str | None, plan: Plan, words: str) -> None:
    """Where the default range is not the host's, the header has both, from the record in the result."""
    result = result_of({BIND: [round_of(MIXED)]}, plan)
    result.environment["host_sysctls"] = {"net.ipv4.ip_local_port_range": host} if host else None
    assert words in header(result, BIND)
    assert words.replace("_", "\\_") in run_report.markdown(result)


def test_knee_and_first_failure_are_reported_with_the_share_in_use() -> None:
    """Where it turned slow for good, and where an attempt first failed, beside the share in use at that moment."""
    samples = samples_of(
        [10_000] * 100 + [50_000] * 150, port=[9024] * 249 + [0], errno=[0] * 249 + [errno.EADDRNOTAVAIL]
    )
    report = run_report.text(run_of(BIND, samples))
    assert line_with(report, "knee: ") == (
        "knee: connection 101 with 0.2% of the range in use, from there on above 3 x 10.0 µs"
    )
    assert line_with(report, "first failed: ") == "first failed: attempt 250 with 0.4% of the range in use"


def test_run_without_a_knee_says_so() -> None:
    """Where there were connections enough to judge, the report says that there is no knee."""
    flat = result_of({BIND: [round_of(samples_of([10_000] * 100))]}, replace(PLAN, port_range=PortRange(9024, 9203)))
    assert (
        line_with(run_report.text(flat), "knee: ") == "knee: none, the rolling median does not stay above 3 x 10.0 µs"
    )
    assert "knee" not in run_report.text(run_of(BIND, samples_of([10_000] * 10)))


def test_steady_growth_has_a_line_of_its_own() -> None:
    """It has the first and the last median, and where it passes three times the baseline the report claims no knee."""
    growing = samples_of(list(range(10_000, 70_000, 100)))
    report = run_report.text(run_of(BIND, growing))
    assert line_with(report, "knee: ") == "knee: none, the connections become slower without a step"
    assert line_with(report, "grows steadily: ") == (
        "grows steadily: median 11.4 µs in the first 5% of the connections, 68.4 µs in the last 5%"
    )
    little = run_report.text(run_of(BIND, samples_of(list(range(10_000, 20_000, 100)))))
    assert line_with(little, "knee: ") == "knee: cannot be seen, only 0.2% of the range in use"
    assert line_with(little, "grows steadily: ").endswith(
        "10.2 µs in the first 5% of the connections, 19.7 µs in the last 5%"
    )
    assert "grows" not in run_report.text(run_of(BIND, samples_of([10_000] * 100)))


@pytest.mark.parametrize("origin", [Origin.CSV, Origin.TALK_CSV])
def test_header_without_a_plan_is_one_line_whatever_the_kernel_is_called(origin: Origin) -> None:
    """A document without a plan may name any kernel and file: no part of them ends the line or controls a terminal."""
    words = "6.1\x1b[2J\x07\n::error::pwned\u202e"
    line = header(file_of(origin, MIXED, name=words, kernel=words), BIND)
    shown = "6.1\ufffd[2J\ufffd\ufffd:\ufffderror:\ufffdpwned\ufffd"
    assert line == f"bind: Linux {shown}, {origin} {shown}"
