"""The comparison in its formats: the content of each, and that text stays within 80 columns."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from connbench.analysis.bootstrap import ChangeVerdict
from connbench.analysis.comparison import FIGURES, Comparison, compare
from connbench.errors import Interrupted
from connbench.model import Churn, Link, Listener, Load, Loop, Namespace, Plan, PortRange, StrategySpec
from connbench.report import comparison_report as report
from connbench.report.comparison_report import HEADER, strategy_tables, verdict
from connbench.report.formats import COMPARISON_FORMATS
from connbench.report.html.figures import VERDICT_COLOURS, of_comparison
from connbench.results.result import Origin, Result, Round
from connbench.safe_text import REPLACEMENT
from factories import BIND, LONG, PLAIN, PLAN, WINDOW, result_of, round_of, samples_of, too_wide

GITHUB = MarkdownIt("commonmark").enable("table")
LATENCY = (10_000, 20_000, 11_000, 21_000)


def rounds_of(number: int, latency: Sequence[int] = LATENCY, **columns: Sequence[int]) -> list[Round]:
    """Rounds that differ by 1 % from one to the next."""
    return [round_of(samples_of([t + t * n // 100 for t in latency], **columns), n + 1) for n in range(number)]


def named(measured: dict[StrategySpec, list[Round]], name: str, seed: int = 1) -> Result:
    """A result as if read from a file."""
    result = result_of(measured, replace(PLAN, seed=seed))
    result.name = name
    return result


def of(base: Sequence[Round], new: Sequence[Round], spec: StrategySpec = BIND) -> Comparison:
    """The comparison of one strategy."""
    return compare(named({spec: list(base)}, "base.json"), named({spec: list(new)}, "new.json"))


def row(text: str, figure: str) -> list[str]:
    """A figure's row, as words."""
    [line] = [line for line in text.splitlines() if line.startswith(figure + " ")]
    return line.split()


@pytest.fixture(scope="module")
def mixed() -> Comparison:
    """Two files that share little: another kernel and range, another seed, a partial round, different strategies."""
    failing = [errno.EADDRNOTAVAIL, 0, 0, 0]
    cut = round_of(samples_of([9_000]), 7, fault=Interrupted(2))
    base = named({BIND: rounds_of(6), PLAIN: rounds_of(2)}, "old.json", seed=1)
    slower = rounds_of(6, [2 * t for t in LATENCY], errno=failing)
    new = named({BIND: [*slower, cut], WINDOW: rounds_of(1)}, "new_kernel.json", seed=2)
    new.environment["kernel"] = "6.18.0"
    assert new.plan
    new.plan = replace(new.plan, port_range=PortRange(10000, 10999))
    return compare(base, new)


def test_text_is_files_warnings_tables_and_the_rest(mixed: Comparison) -> None:
    """First whether they are comparable, then files, differences, each strategy; the verdict at the end."""
    assert report.text(mixed, 80).splitlines() == [
        "Not comparable: port range: 9024-65535 in BASE, 10000-10999 in NEW.",
        "",
        "BASE old.json: Linux 6.8.0-test, range 9024-65535, 4 connections, 2 to 6 rounds",
        "NEW  new_kernel.json: Linux 6.18.0, range 10000-10999, 4 connections, 1 to 6",
        "  rounds (1 partial, left out)",
        "",
        "WARNING: one of these may be the reason of a change below:",
        "  warning: kernel: 6.8.0-test in BASE, 6.18.0 in NEW",
        "  warning: port range: 9024-65535 in BASE, 10000-10999 in NEW",
        "",
        "note: seed: 1 in BASE, 2 in NEW",
        "",
        "bind: 6 rounds in BASE, 6 rounds (1 partial, left out) in NEW",
        "figure        BASE      NEW  NEW/BASE    95% interval  verdict",
        "total      63.5 µs   127 µs   2.000 x  1.949 to 2.052  slower",
        "mean       15.9 µs  31.8 µs   2.000 x  1.949 to 2.052  slower",
        "p50        15.9 µs  31.8 µs   2.000 x  1.949 to 2.052  slower",
        "p99        21.5 µs  43.0 µs   2.000 x  1.949 to 2.052  slower",
        "even.mean  10.8 µs  22.5 µs   2.095 x  2.042 to 2.150  slower",
        "even.p50   10.8 µs  22.5 µs   2.095 x  2.042 to 2.150  slower",
        "even.p99   11.3 µs  22.5 µs   2.002 x  1.951 to 2.054  slower",
        "odd.mean   21.0 µs  42.0 µs   2.000 x  1.949 to 2.052  slower",
        "odd.p50    21.0 µs  42.0 µs   2.000 x  1.949 to 2.052  slower",
        "odd.p99    21.5 µs  43.0 µs   2.000 x  1.949 to 2.052  slower",
        "errors       0.00%   25.00%  +25.0 pp  +25.0 to +25.0  more errors",
        "",
        "only in BASE: plain",
        "only in NEW: window 500",
        "11 figures judged, each at 95%: where nothing has changed, 1 of them may look",
        "  different by chance",
        "",
        "verdict: Not comparable: port range: 9024-65535 in BASE, 10000-10999 in NEW.",
        "Of 11 figures, 10 are slower and 1 has more errors; the largest change: bind",
        "  even.mean, 10.8 µs to 22.5 µs, 2.095 x (95 % interval 2.042 to 2.150).",
        "Next: measure both with the same options.",
    ]


def test_like_files_give_no_warning() -> None:
    """The report lists no differences where there are none."""
    text = report.text(of(rounds_of(5), rounds_of(5)), 80)
    assert "arning" not in text
    assert "note" not in text


@pytest.mark.parametrize(
    ("base", "new", "remark"),
    [
        (5, 4, "undetermined: NEW needs 1 more complete round; a verdict needs 5 of each"),
        (3, 5, "undetermined: BASE needs 2 more complete rounds; a verdict needs 5 of each"),
        (4, 1, "undetermined: BASE needs 1 and NEW 4 more complete rounds; a verdict needs 5 of each"),
    ],
)
def test_missing_rounds_are_counted(base: int, new: int, remark: str) -> None:
    """An undetermined comparison says which side needs how many more rounds, and gives no interval."""
    text = report.text(of(rounds_of(base), rounds_of(new)), 90)
    assert remark in text.splitlines()
    assert row(text, "total")[-2:] == ["-", "undetermined"]
    assert row(text, "total")[-3] == "x"
    assert "by chance" not in text


def test_groups_too_rare_for_a_verdict_are_named() -> None:
    """Where rounds are enough but too few of them have odd ports, the report names the figures that lack them."""
    even = rounds_of(5, port=[9024, 9026, 9028, 9030])
    text = report.text(of(rounds_of(5), even))
    assert "odd.mean, odd.p50, odd.p99: NEW needs 5 more rounds with such connections" in text
    assert row(text, "odd.p50") == ["odd.p50", "20.9", "µs", "-", "-", "-", "undetermined"]
    assert row(text, "p50")[-1] != "undetermined"


def test_no_complete_round_leaves_the_remark_alone() -> None:
    """Without a figure on either side there is no table."""
    cut = [round_of(samples_of([]), fault=Interrupted(2))]
    [table] = strategy_tables(of(cut, cut))
    assert (table.rows, table.remarks) == (
        [],
        ("undetermined: BASE needs 5 and NEW 5 more complete rounds; a verdict needs 5 of each",),
    )
    assert "figure  " not in report.text(of(cut, cut))


def test_nothing_in_common_is_said() -> None:
    """The report lists both files' strategies, and nothing else."""
    text = report.text(compare(named({BIND: rounds_of(5)}, "a"), named({PLAIN: rounds_of(5)}, "b")))
    assert text.splitlines()[2:] == [
        "",
        "only in BASE: bind",
        "only in NEW: plain",
        "",
        "verdict: Nothing to compare: no strategy of the same name and parameters is in both.",
        "Next: measure the same strategies for both.",
    ]


@pytest.mark.parametrize("factor", [1e-7, 0.05, 1.0, 50.0, 1e6])
@pytest.mark.parametrize("failing", [0, 4])
def test_text_fits_80_columns(factor: float, failing: int) -> None:
    """Extreme changes, long labels and long lists stay within 80 columns."""
    base = [10**9 * t // 10_000 for t in LATENCY]
    codes = [errno.EADDRNOTAVAIL if i < failing else 0 for i in range(4)]
    compared = of(rounds_of(5, base), rounds_of(5, [int(t * factor) for t in base], errno=codes), LONG)
    listed = replace(compared, only_new=tuple(replace(LONG, window=n) for n in range(1000, 1010)))
    text = report.text(listed, 80)
    assert row(text, "total")[-1] in {"faster", "slower", "shown"}
    assert too_wide(text) == []


@pytest.mark.parametrize(
    ("new", "shown"), [(0, "+0.00 pp"), (1, "+25.0 pp"), (4, "+100 pp")], ids=["none", "a quarter", "all"]
)
def test_errors_are_reported_in_percentage_points(new: int, shown: str) -> None:
    """A share's change is in percentage points with its sign, to three digits."""
    codes = [errno.EADDRNOTAVAIL if i < new else 0 for i in range(4)]
    assert " ".join(row(report.text(of(rounds_of(5), rounds_of(5, errno=codes))), "errors")[3:5]) == shown


def test_markdown_has_warnings_and_tables(mixed: Comparison) -> None:
    """The warnings are a block of their own above the tables, one row a figure."""
    lines = report.markdown(mixed).splitlines()
    assert lines[0] == "Not comparable: port range: 9024-65535 in BASE, 10000-10999 in NEW."
    assert (
        "- NEW new_kernel.json: Linux 6.18.0, range 10000-10999, 4 connections, 1 to 6 rounds (1 partial, left out)"
    ) in lines
    assert "> - **warning** kernel: 6.8.0-test in BASE, 6.18.0 in NEW" in lines
    [top] = [at for at, line in enumerate(lines) if line.startswith("| figure ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[top : top + 3]]
    assert cells[0] == ["figure", "BASE", "NEW", "NEW/BASE", "95% interval", "verdict"]
    assert [cell.endswith(":") for cell in cells[1]] == [False, True, True, True, True, False]
    assert lines.index("> [!WARNING]") < top
    assert cells[2] == ["total", "63.5 µs", "127 µs", "2.000 x", "1.949 to 2.052", "slower"]
    assert len({line.count("|") for line in lines[top : top + 2 + len(FIGURES)]}) == 1


def test_markdown_shows_hostile_names_to_the_letter() -> None:
    """Names from a file break no table and make no tag, link or heading."""
    text = report.markdown(of(rounds_of(5), rounds_of(5), StrategySpec("a|b\n# <script> [x](y) `z` @who")))
    [title] = re.findall("<h3>(.*)</h3>", GITHUB.render(text))
    name = "a|b\N{REPLACEMENT CHARACTER}# &lt;script&gt; [x](y) `z` @who"
    assert title.replace("<!-- -->", "") == f"{name}: 5 rounds in BASE, 5 rounds in NEW"


def test_json_has_figures_for_programs(mixed: Comparison) -> None:
    """Times in ns, shares of 1, differences and rounds, with the names the thresholds use."""
    document = json.loads(report.json(mixed))
    assert document["alike"] is False
    assert document["comparable"] is False
    assert document["verdict"] == list(verdict(mixed))
    assert [d["code"] for d in document["differences"]] == ["kernel", "port-range", "seed"]
    assert (document["base"]["file"], document["new"]["kernel"]) == ("old.json", "6.18.0")
    assert [spec["name"] for spec in document["only_in_base"]] == ["plain"]
    [strategy] = document["strategies"]
    assert strategy["rounds"] == {"base": {"complete": 6, "partial": 0}, "new": {"complete": 6, "partial": 1}}
    assert tuple(strategy["figures"]) == FIGURES
    total, errors = strategy["figures"]["total"], strategy["figures"]["errors"]
    assert total["new"] == pytest.approx(127_000, rel=0.01)
    assert total["change"]["low"] < total["change"]["estimate"] < total["change"]["high"]
    assert (total["compared_by"], total["verdict"], total["unit"]) == ("ratio", "slower", "ns")
    assert errors["unit"] == "share"
    assert (errors["new"], errors["change"]["estimate"], errors["compared_by"]) == (0.25, 0.25, "difference")


def test_json_of_like_files_says_so() -> None:
    """Without a warning the two are alike; what is undetermined is null, with the rounds that it needs."""
    document = json.loads(report.json(of(rounds_of(5), rounds_of(2))))
    assert document["alike"] is True
    total = document["strategies"][0]["figures"]["total"]
    assert (total["change"], total["missing_rounds"]) == (None, {"base": 0, "new": 3})


def test_rows_have_a_cell_a_column(mixed: Comparison) -> None:
    """Every writer finds as many cells in a row as there are columns."""
    assert {len(cells) for table in strategy_tables(mixed) for cells in table.rows} == {len(HEADER)}


def test_json_has_null_for_an_empty_group() -> None:
    """Odd ports that one side never took are null, not 0."""
    even = rounds_of(5, port=[9024, 9026, 9028, 9030])
    odd = json.loads(report.json(of(rounds_of(5), even)))["strategies"][0]["figures"]["odd.p50"]
    assert (odd["base"] is None, odd["new"], odd["change"]) == (False, None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "The two are comparable: of 11 figures, 10 are slower and 1 shows no difference; the largest change: "),
        ({"kernel": "6.18.0"}, "The two are comparable, with another kernel in NEW: of 11 figures, 10 are slower and "),
    ],
    ids=["alike", "another kernel"],
)
def test_the_verdict_counts_and_names_the_largest(change: dict[str, object], said: str) -> None:
    """Figures by verdict, the largest change with its interval, what else differs, and how small a change shows."""
    base, new = named({BIND: rounds_of(6)}, "a"), named({BIND: rounds_of(6, [2 * t for t in LATENCY])}, "b")
    new.environment |= change
    first, second = verdict(compare(base, new))
    assert first.startswith(said)
    assert first.endswith("63.5 µs to 127 µs, 2.000 x (95 % interval 1.949 to 2.052).")
    assert second == "A change of the total time by less than 2.6 % does not show with these rounds."


def test_the_verdict_says_whether_rounds_were_enough() -> None:
    """Too few: how many are missing, and the command; enough and alike: which change they would have shown."""
    few = verdict(of(rounds_of(3), rounds_of(5)))
    assert few == (
        "The two are comparable: of 11 figures, 11 are undetermined.",
        "Too few rounds: BASE needs 2 more complete rounds; a verdict needs 5 of each.",
        "Next: measure both with --rounds 10.",
    )
    alike = verdict(of(rounds_of(5), rounds_of(5)))
    assert alike[0] == "The two are comparable: of 11 figures, 11 show no difference."
    assert alike[1] == "A change of the total time by less than 2.8 % does not show with these rounds."


def test_the_verdict_says_that_the_loop_may_be_the_reason() -> None:
    """Another loop is named, and the next step is to measure both with one; too few rounds come first."""
    base, new = named({BIND: rounds_of(5)}, "a"), named({BIND: rounds_of(5)}, "b")
    assert base.plan
    base.plan = replace(base.plan, loop=Loop.PYTHON)
    told = verdict(compare(base, new))
    assert told[0].startswith("The two are comparable, with another loop in NEW: ")
    assert told[-1] == "Next: measure both with --loop python, because the loop may be the reason of a change."
    assert "  warning: loop: Python in BASE, C in NEW" in report.text(compare(base, new)).splitlines()
    few = named({BIND: rounds_of(1)}, "c")
    assert verdict(compare(base, few))[-1] == "Next: measure both with --rounds 10."


@pytest.mark.parametrize(
    ("change", "is_comparable"),
    [
        (lambda plan: replace(plan, port_range=PortRange(10000, 10999)), False),
        (lambda plan: replace(plan, connections=3), False),
        (lambda plan: replace(plan, listener=Listener.ACCEPT), False),
        (lambda plan: replace(plan, namespace=Namespace.HOST), False),
        (lambda plan: replace(plan, namespace=Namespace.USER), True),
        (lambda plan: replace(plan, link=Link.VETH), False),
        (lambda plan: replace(plan, delay_ms=2.0), False),
        (lambda plan: replace(plan, loop=Loop.PYTHON), True),
        (lambda plan: replace(plan, timeout=3.0), True),
        (lambda plan: replace(plan, seed=7), True),
    ],
    ids=["range", "connections", "listener", "host", "user namespace", "link", "delay", "loop", "timeout", "seed"],
)
def test_what_was_measured_otherwise_is_not_comparable(change: Callable[[Plan], Plan], *, is_comparable: bool) -> None:
    """Another range, number, listener or link alone may cause the change, and the report says so first."""
    base, new = named({BIND: rounds_of(5)}, "a"), named({BIND: rounds_of(5)}, "b")
    assert new.plan
    new.plan = change(new.plan)
    found = compare(base, new)
    assert found.is_comparable is is_comparable
    assert report.text(found).startswith("Not comparable: ") is not is_comparable
    assert verdict(found)[0].startswith("Not comparable: ") is not is_comparable


def test_what_a_csv_does_not_tell_is_not_known() -> None:
    """A CSV does not say whether it was measured in the same way."""
    base, new = named({BIND: rounds_of(5)}, "a.csv"), named({BIND: rounds_of(5)}, "b")
    base.origin, base.plan = Origin.CSV, None
    found = compare(base, new)
    assert found.is_comparable is None
    assert report.text(found).startswith("Whether the two are comparable is not known: BASE is a connbench CSV.")


def test_another_load_is_reported() -> None:
    """A strategy that each file has under a load of its own is not just missing: a line says so."""
    filled, churned = replace(WINDOW, load=Load(fill=0.8)), replace(WINDOW, load=Load(churn=Churn(2000)))
    new = {spec: rounds_of(1) for spec in churned.phases}
    text = report.text(compare(named({filled: rounds_of(1)}, "a.json"), named(new, "b.json")))
    [line] = [line for line in text.splitlines() if line.startswith("not compared")]
    assert line == (
        "not compared: window 500 was measured with another load, "
        "'window 500, fill 80%' in BASE and 'window 500, before churn 2000', 'window 500, churn 2000' in NEW"
    )


def test_name_that_is_no_text_has_a_mark() -> None:
    """Bytes of a file's name that are no text break no format."""
    base, new = (named({BIND: rounds_of(5)}, name) for name in ("a.json", "b\udcff.json"))
    for render in COMPARISON_FORMATS.values():
        assert re.search(rf"b[?{REPLACEMENT}]\.json", render(compare(base, new)))


def test_picture_has_the_intervals_that_the_verdicts_rest_on() -> None:
    """A mark for each figure with an interval, green where NEW is faster; nothing without an interval."""
    compared = of(rounds_of(6, [2 * t for t in LATENCY]), rounds_of(6))
    picture = of_comparison(compared)
    assert picture
    [trace] = picture.figure["data"]
    change = compared.strategies[0].figures["total"].change
    assert change
    place = trace["y"].index("bind: total")
    assert trace["x"][place] == change.estimate
    assert trace["error_x"]["array"][place] == pytest.approx(change.high - change.estimate)
    assert trace["marker"]["color"][place] == VERDICT_COLOURS[ChangeVerdict.FASTER]
    assert of_comparison(of(rounds_of(2), rounds_of(2))) is None
