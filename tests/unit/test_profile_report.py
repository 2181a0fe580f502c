"""The report of a profile: its table, its knees and its verdict, from times that the tests make."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from connbench.analysis.gate import evaluate
from connbench.analysis.knee import find_knee
from connbench.analysis.levels import levels_of, ports_of
from connbench.analysis.soundness import findings
from connbench.errors import Interrupted
from connbench.model import Load, Phase, Placement, PortRange, Profile, Protocol, StrategySpec
from connbench.report.html.page import html_page
from connbench.report.json import json_document
from connbench.report.profile_report import markdown, tables, text, verdict
from connbench.report.run_report import strategy_blocks
from connbench.report.run_verdict import run_verdict
from connbench.report.series import series_of
from connbench.report.text import write
from connbench.results.csv_file import csv_rows, read_csv
from connbench.results.json_file import read_json
from connbench.results.result import Result, Round, Samples
from connbench.thresholds import parse
from factories import BIND, PLAIN, PLAN, RANDOM, WINDOW, result_of, round_of, samples_of, too_wide

LEVELS = (0.25, 0.45, 0.5, 0.75, 1.0)
PORTS = 1000
EACH = 4
"""Attempts at a level."""

FAST, SLOW = [5_000] * 5, [5_000, 6_000, 90_000, 95_000, 180_000]
"""What connect() takes at each level."""


def under(spec: StrategySpec, levels: tuple[float, ...] = LEVELS, samples: int = EACH) -> StrategySpec:
    """A strategy that is measured at levels."""
    return replace(spec, load=Load(profile=Profile(levels, samples)), phase=Phase.PROFILE)


def attempts(connect_ns: Sequence[int], failed: Sequence[int] = (), levels: Sequence[float] = LEVELS) -> Samples:
    """The attempts of a round; `failed` says how many fail at each level, at the last one all if it is left out."""
    failing = [*failed] or [0] * (len(levels) - 1) + [EACH if levels[-1] == 1 else 0]
    return samples_of(
        [ns for ns in connect_ns for _ in range(EACH)],
        prepare_ns=[0] * EACH * len(connect_ns),
        errno=[errno.EADDRNOTAVAIL * (row < number) for number in failing for row in range(EACH)],
        in_use=[round(level * PORTS) for level in levels for _ in range(EACH)],
    )


def profile_of(measured: dict[StrategySpec, Samples]) -> Result:
    """A profile over 1,000 ports, a round for each strategy."""
    plan = replace(PLAN, port_range=PortRange(9024, 9024 + PORTS - 1))
    result = result_of({spec: [round_of(samples)] for spec, samples in measured.items()}, plan)
    assert result.plan
    planned = tuple(replace(spec, phase=Phase.FILL) for spec in measured)
    return replace(result, plan=replace(result.plan, strategies=planned))


@pytest.fixture
def usual() -> Result:
    """`plain` turns slow at half of the ports, `window` fails now and then, `random` takes longer and longer."""
    return profile_of(
        {
            under(PLAIN): attempts(SLOW),
            under(BIND): attempts(SLOW),
            under(RANDOM): attempts([5_000, 7_000, 11_000, 20_000, 900_000]),
            under(WINDOW): attempts(FAST, [0, 0, 0, 1, EACH]),
        }
    )


def test_table_has_a_row_for_each_level_and_a_column_for_each_strategy(usual: Result) -> None:
    """A time in brackets is that of attempts that all fail; the last row has the knees."""
    [table] = tables(usual)
    assert table.header == ("level", "ports", "plain", "bind", "random", "window 500")
    assert table.rows == [
        ("25%", "250", "5.00 µs", "5.00 µs", "5.00 µs", "5.00 µs"),
        ("45%", "450", "6.00 µs", "6.00 µs", "7.00 µs", "5.00 µs"),
        ("50%", "500", "90.0 µs", "90.0 µs", "11.0 µs", "5.00 µs"),
        ("75%", "750", "95.0 µs", "95.0 µs", "20.0 µs", "5.00 µs"),
        ("100%", "1,000", "(180 µs)", "(180 µs)", "(900 µs)", "(5.00 µs)"),
        ("knee", "", "50%", "50%", "75%", "none"),
    ]


def test_strategies_with_different_numbers_of_ports_have_both_in_a_row() -> None:
    """With a stride a level is of fewer ports: the row names the fewest and the most."""
    few = replace(RANDOM, stride=4, residue=0)
    fewer = attempts(FAST)
    made = {under(PLAIN): attempts(FAST), under(few): replace(fewer, in_use=fewer.in_use // 4)}
    [table] = tables(profile_of(made))
    assert [row[1] for row in table.rows] == ["62-250", "112-450", "125-500", "187-750", "250-1,000", ""]


def test_wide_table_has_p99_and_errors_too(usual: Result) -> None:
    """Three columns for each strategy."""
    [table] = tables(usual, is_wide=True)
    assert table.header[:5] == ("level", "ports", "plain p50", "p99", "errors")
    assert table.rows[3][-3:] == ("5.00 µs", "5.00 µs", "25.0 %")
    assert table.rows[4][-3:] == ("(5.00 µs)", "(5.00 µs)", "100.0 %")
    assert table.rows[5] == ("knee", "", "50%", "", "", "50%", "", "", "75%", "", "", "none", "", "")


def test_verdict_says_where_what_and_what_next(usual: Result) -> None:
    """Those that turn slow, what the others take with few ports left, and the command to go on with."""
    turns = "plain and bind turn slow once 500 of the 1,000 ports (50 %) are in use"
    assert verdict(usual) == (
        f"{turns}: acquire p50 5 to 6 µs before, 90 to 95 µs from there on.",
        "With 75 % in use, window 500 takes 5 µs (25.0 % of the attempts fail) and random 20 µs.",
        "Next: connbench advise -n 750 --port-range 9024-10023 says which strategy and setting fit such a load.",
    )
    assert run_verdict(usual) == ()


def test_failures_with_free_ports_have_a_line(usual: Result) -> None:
    """Where no port is free there is nothing to say."""
    assert "attempts that fail though ports are free: window 500 25.0 % at 75%\n" in text(usual)


def test_knee_is_a_level(usual: Result) -> None:
    """Its attempt is the first at that level."""
    plain, _, random, window = (find_knee(strategy) for strategy in usual.strategies)
    assert (plain.connection, plain.in_use, plain.share, plain.baseline_ns) == (2 * EACH + 1, 500, 0.5, 5_000)
    assert (plain.first_failed, plain.in_use_at_failure, plain.fullest) == (4 * EACH + 1, 1000, 1.0)
    assert (random.in_use, window.in_use) == (750, None)
    assert window.is_judged


def test_a_level_that_is_slow_for_a_while_is_no_knee() -> None:
    """From the knee on, every level is slow."""
    [strategy] = profile_of({under(PLAIN): attempts([5_000, 90_000, 5_000, 5_000, 5_000])}).strategies
    assert find_knee(strategy).connection is None


def test_early_turns_slow_in_bind() -> None:
    """The verdict names the call and the option, and the next command measures the strategies that set it."""
    early = StrategySpec("early")
    slow = attempts([4_000] * 5)
    slow = replace(slow, prepare_ns=slow.in_use * 1_000, acquire_ns=np.repeat(SLOW, EACH))
    assert verdict(profile_of({under(early): slow})) == (
        (
            "early: bind() turns slow once 500 of the 1,000 ports (50 %) are in use: acquire p50 5 to 6 µs before, "
            "90 to 95 µs from there on."
        ),
        (
            "Set IP_BIND_ADDRESS_NO_PORT before bind(): then connect() chooses the port, for its own target only "
            "(as bind and range do)."
        ),
        "Next: connbench profile --strategy bind,range --port-range 9024-10023 shows what helps.",
    )
    few = (0.1, 0.4)
    unseen = verdict(profile_of({under(spec, few): attempts([5_000] * 2, levels=few) for spec in (early, PLAIN)}))
    assert unseen[1] == (
        "These levels cannot show whether early and plain turn slow: bind() and connect() do when half of the ports "
        "are in use."
    )


def test_tries_with_the_fewest_ports_free_stand_below_the_table() -> None:
    """What a program pays that binds again and again, where a port is still free."""
    levels = attempts([5_000] * 5)
    result = profile_of(
        {under(RANDOM): replace(levels, tries=np.repeat([1, 2, 3, 4, 1000], EACH)), under(PLAIN): levels}
    )
    assert "\ntries of an attempt, the mean: random 4.0 at 75%\n" in text(result)


def test_levels_below_half_show_no_knee() -> None:
    """The verdict says so, and the table has no `none`."""
    few = (0.1, 0.4)
    result = profile_of({under(PLAIN, few): attempts([5_000, 5_000], levels=few)})
    assert verdict(result)[1] == (
        "These levels cannot show whether plain turns slow: connect() does when half of the ports are in use."
    )
    assert tables(result)[0].rows[-1] == ("knee", "", "-")


def test_slow_strategies_alone_lead_to_those_that_help() -> None:
    """Not to advice for a load that no measured strategy carries."""
    result = profile_of({under(PLAIN): attempts(SLOW)})
    assert (
        verdict(result)[-1]
        == "Next: connbench profile --strategy range,window --port-range 9024-10023 shows what helps."
    )


def test_rounds_count_together() -> None:
    """The median of a level is that of all its attempts; a partial round has the first levels alone."""
    spec, whole = under(PLAIN), attempts(SLOW)
    result = profile_of({spec: whole})
    short = whole.between(0, 2 * EACH + 1)
    result.rounds[spec] += [Round(2, attempts([15_000] * 5)), Round(3, short, fault=Interrupted(2))]
    first, second, third, *_ = levels_of(result.strategies[0])
    assert (first.acquire.count, second.acquire.count, third.acquire.count) == (12, 12, 9)
    assert (first.acquire.p50, third.acquire.p50) == (5_000, 90_000)
    assert verdict(result)[-1] == "Next: the run was cut short; run it again for the rest."


def test_without_an_attempt_there_is_no_table() -> None:
    """As after an interruption while the ports of the first level were taken."""
    spec = under(PLAIN)
    result = profile_of({spec: attempts(SLOW)})
    result.rounds[spec] = [Round(1, attempts(SLOW).between(0, 0), fault=Interrupted(2))]
    assert tables(result) == []
    assert verdict(result) == ()
    assert "partial, 0 of 20 attempts" in text(result)


def test_text_fits_a_terminal(usual: Result) -> None:
    """With six strategies, and with a name that is folded."""
    long = replace(WINDOW, placement=Placement.CLIPPED, retries=3)
    six = [PLAIN, BIND, RANDOM, long, StrategySpec("range"), StrategySpec("partition", 500)]
    result = profile_of({under(spec): attempts(SLOW) for spec in six})
    assert too_wide(text(result, 80)) == []
    wide = text(result, 80, is_wide=True)
    assert too_wide(wide) == []
    assert wide.count("level  ports") == 3, "two strategies in each"
    assert text(result, is_wide=True).count("level  ports") == 1
    assert text(usual, 80).splitlines()[-1].startswith("  ")
    assert text(usual, 80).index("verdict:") > text(usual, 80).index("100%")
    assert markdown(usual).index("turn slow") < markdown(usual).index("100%")


def test_files_have_the_levels(usual: Result) -> None:
    """JSON and CSV come back with the same table; JSON has the figures of each level, too."""
    document = json_document(usual)
    assert tables(read_json(document.encode(), "x.json")) == tables(usual)
    read = read_csv(csv_rows(usual), "x.csv")
    assert tables(read) == tables(usual)
    assert ports_of(levels_of(read.strategies[0])) == PORTS
    plain = json.loads(document)["strategies"][0]
    assert [level["in_use"] for level in plain["levels"]] == [250, 450, 500, 750, 1000]
    assert plain["levels"][2]["acquire_ns"]["p50"] == 90_000
    assert (plain["knee"]["in_use"], plain["knee"]["connection"]) == (500, 2 * EACH + 1)


def test_gate_on_the_knee(usual: Result) -> None:
    """A strategy without a knee has it at 100 %."""
    assert [failure.subject for failure in evaluate([parse("knee < 60%", with_base=False)], usual)] == [
        under(PLAIN).label,
        under(BIND).label,
    ]


def test_a_step_at_the_95_percent_level_is_a_late_one() -> None:
    """Also where a share of the ports that is no whole number leaves some less than 95 % in use."""
    samples = attempts([5_000, 5_000, 90_000], levels=(0.25, 0.9, 0.949))
    late = profile_of({under(RANDOM, (0.25, 0.9, 0.95)): samples})
    assert "turns slow" not in " ".join(verdict(late))
    assert tables(late)[0].rows[-1] == ("knee", "", "95%")


def test_each_strategy_by_itself(usual: Result) -> None:
    """As `report --blocks` and a page have it."""
    words = write(strategy_blocks(usual, usual.strategies[3]))
    assert words.splitlines()[1].split() == ["acquire", "ports", "p50", "p90", "p99", "max", "tries", "mean", "errors"]
    assert words.splitlines()[5].split() == ["75%", "750", *["5.00", "µs"] * 4, "1.00", "1"]
    assert "errors: EADDRNOTAVAIL 5" in words
    assert "wall time" not in words


def test_page_and_chart_have_a_point_for_each_level(usual: Result) -> None:
    """Of levels with a connection: the median and the p99 of connect()."""
    from connbench.report.charts.utilisation import _rolling  # noqa: PLC0415  # what the chart draws

    shares, (median, p99) = _rolling(series_of([usual])[0])
    assert shares.tolist() == [0.25, 0.45, 0.5, 0.75]
    assert median.tolist() == p99.tolist() == [0.005, 0.006, 0.09, 0.095]
    page = html_page([usual], tables(usual))
    assert "plain, profile" in page


def test_labels_name_other_levels_and_samples() -> None:
    """The usual ones are `profile`."""
    usual = Load(profile=Profile(tuple(step / 20 for step in range(1, 21))))
    assert replace(PLAIN, load=usual).label == "plain, profile"
    assert under(PLAIN, (0.5, 0.8), 7).label == "plain, profile at 50%,80%, 7 samples each"


def test_full_levels_alone_are_sound() -> None:
    """Their attempts are to fail; attempts that fail with ports free are not."""
    full = profile_of({under(PLAIN, (1.0,)): attempts([180_000], levels=(1.0,))})
    assert [found.severity for found in findings(full) if found.code == "no-connection"] == []
    assert verdict(full)[0] == "With 100 % in use, plain takes 180 µs (all attempts fail)."
    half = profile_of({under(PLAIN, (0.5, 1.0)): attempts([5_000, 180_000], [EACH, EACH], levels=(0.5, 1.0))})
    [found] = [found for found in findings(half) if found.code == "no-connection"]
    assert found.message == "none of 4 attempts made a connection (EADDRNOTAVAIL 4)"


def test_udp_leads_to_advice_for_udp() -> None:
    """UDP has no parity that comes first."""
    spec = replace(under(PLAIN), load=Load(protocol=Protocol.UDP, profile=Profile(LEVELS, EACH)))
    assert " --protocol udp says which" in verdict(profile_of({spec: attempts(FAST)}))[-1]
