"""The HTML page: its content, its resistance to hostile files, and its size."""

from __future__ import annotations

import base64
import errno
import hashlib
import html
import json
import re
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.summary import summarize
from connbench.errors import EnvironmentFault, RunFault
from connbench.findings import Finding, Severity
from connbench.model import Churn, Load, Phase, Placement, StrategySpec
from connbench.report import sweep_report
from connbench.report.blocks import Table
from connbench.report.html import figures, page
from connbench.report.html.figures import Bar, Picture, bars
from connbench.report.html.page import Opening, comparison_tables, environment_table, html_page
from connbench.report.ranking_table import ranking_of
from connbench.report.run_verdict import run_verdict
from connbench.report.series import series_of
from connbench.report.talk import six_lines
from connbench.results.csv_file import csv_rows, read_csv
from connbench.results.result import Result, Samples
from connbench.safe_text import printable
from factories import BIND, PLAIN, PLAN, PORTS, WINDOW, result_of, round_of, samples_of, unhurried

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&<b>%{x}$\"'\u2028"
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """A page as a browser parses it: its elements with their attributes, and the text in each kind of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, dict(attrs)))
        if tag in {"td", "th"}:
            self.handle_data(" ")
        if tag not in VOID:
            self.open.append(tag)
            self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """The innermost element ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text belongs to all open elements."""
        for tag in self.open:
            self.words[tag][-1] += data

    @property
    def figures(self) -> dict[str, Any]:
        """The charts' JSON."""
        loaded: dict[str, Any] = json.loads(self.words["script"][0])
        return loaded


MIXED = samples_of(
    [10_000, 20_000, 30_000, 400_000, 50_000, 0],
    errno=[0, 0, 0, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.EADDRINUSE],
)
NOTE = Finding("host-namespace", Severity.WARNING, "measuring in the host's network namespace", "run as root")


def two_strategies() -> Result:
    """Plain slow, window fast with failures; a finding, and a command."""
    slow = samples_of([1_000_000] * 6)
    result = result_of({PLAIN: [round_of(slow)], WINDOW: [round_of(MIXED)]}, known=(NOTE,))
    result.environment["command"] = "connbench run --window 500 -o 'my file.json'"
    result.name = "runs/kernel.json"
    return result


def hostile() -> Result:
    """A result whose every text tries to break out of its place."""
    spec = StrategySpec(HOSTILE)
    finding = Finding("x", Severity.NOTE, HOSTILE, HOSTILE, HOSTILE)
    fault = RunFault(HOSTILE, HOSTILE)
    result = result_of({spec: [round_of(MIXED, fault=fault)], BIND: [round_of(MIXED)]}, known=(finding,))
    result.environment = {"kernel": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}, "command": HOSTILE}
    result.name = HOSTILE
    return result


@cache
def page_of_two() -> Page:
    """The page of `two_strategies`, which many tests look at."""
    return Page(html_page([two_strategies()]))


def unpack(packed: dict[str, str]) -> npt.NDArray[np.number]:
    """The numbers that plotly.js finds in a packed array."""
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype="<" + packed["dtype"])


def test_page_has_each_strategys_six_lines_and_tables() -> None:
    """The talk's lines are exact, and the tables have the text report's figures."""
    page = page_of_two()
    for strategy in two_strategies().strategies:
        assert six_lines(summarize(strategy)) in page.words["pre"]
    assert not any("infms" in words for words in page.words["pre"])
    assert [table.split()[0] for table in page.words["table"]] == [
        "strategy", "latency", "acquire", "latency", "acquire", "strategies", "kernel",
    ]  # fmt: skip
    assert page.words["table"][1].split()[8:12] == ["all", "6", "1.00", "ms"]
    assert "errors: EADDRINUSE 1, EADDRNOTAVAIL 1, ECONNREFUSED 1" in page.words["li"]


def test_page_opens_with_what_it_is_of_the_verdict_and_the_picture() -> None:
    """Strategies, file, kernel, CPU, date and range come first, then the verdict, then the chart; all tables follow."""
    result = result_of({PLAIN: [round_of(samples_of([10_000] * 60))]}, PLAN)
    result.environment |= {"cpu_model": "Some CPU", "time": "2026-11-28T04:12:55+00:00"}
    result.name = "a.json"
    assert result.plan
    source = html_page([result])
    page = Page(source)
    assert page.words["h1"] == ["connect() with plain"]
    kernel = result.environment["kernel"]
    origin = f"a.json · Linux {kernel} · Some CPU · 2026-11-28 04:12:55 UTC · ports {result.plan.port_range}"
    assert page.words["p"][0] == origin
    verdict = run_verdict(result)
    assert verdict
    assert page.words["li"][: len(verdict)] == list(verdict)
    places = [source.index(mark) for mark in ("<h1>", 'class="verdict"', 'id="utilisation"', "<table", 'id="terms"')]
    assert places == sorted(places)


def test_page_of_churn_opens_with_its_scatter() -> None:
    """Churn fills no range: the first chart is the scatter, which shows it."""
    load = Load(churn=Churn(10))
    source = html_page([result_of({StrategySpec("plain", load=load, phase=Phase.CHURN): [round_of(MIXED)]})])
    assert source.index('id="scatter"') < source.index('id="charts"') < source.index('id="utilisation"')


def test_page_shows_the_picture_that_it_is_given() -> None:
    """A command's own verdict and picture take the first screen; the talk's rows are muted, long lists folded."""
    picture = bars([Bar("plain", "here", 1.0, "1 x"), Bar("plain", "the talk", 2.0, "2 x")], "speed-up")
    first = Table(("a", "b"), [("one", "1"), ("the talk", "2")], title="First", muted=(1,))
    more = [first, replace(first, title="Second", muted=(), folded="all 2 hold")]
    source = html_page([two_strategies()], more, Opening(("It holds.",), Picture(picture, "Measured")))
    page = Page(source)
    assert page.words["li"][0] == "It holds."
    assert "plain turns slow" not in source
    assert page.figures["picture"]["data"][1]["meta"] == {"muted": True}
    assert source.index('id="picture"') < source.index("<table") < source.index('id="utilisation"')
    assert [a.get("class") for tag, a in page.elements if tag == "tr"].count("muted") == 1
    assert "all 2 hold" in page.words["summary"]


def test_page_compares_what_a_connection_costs() -> None:
    """The closing table of the text, with an explanation of its columns."""
    result = two_strategies()
    [table] = comparison_tables([result])
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    assert (table, table.remarks) == (replace(ranking.table, title="Comparison"), (ranking.remark,))
    assert page_of_two().words["table"][0].split()[:4] == ["strategy", "acquire", "vs", "plain"]


def test_strategies_of_two_files_are_compared_under_names_that_tell_them_apart() -> None:
    """The same strategy of two files has two rows, the file's name in each."""
    old, new = two_strategies(), two_strategies()
    old.name, new.name = "old.json", "new.json"
    table, *_ = comparison_tables([old, new])
    assert [row[0] for row in table.rows] == [
        "window 500 (old)", "window 500 (new)", "plain (old)", "plain (new)",
    ]  # fmt: skip


def test_two_files_have_verdicts_and_what_else_differs() -> None:
    """Two results are compared as `connbench compare` does it; three are only put side by side."""
    old, new = two_strategies(), two_strategies()
    old.name, new.name = "old.json", "new.json"
    new.environment["kernel"] = "6.18.0"
    _, differing, *verdicts = comparison_tables([old, new])
    assert ("warning", "kernel: 6.8.0-test in BASE, 6.18.0 in NEW") in differing.rows
    assert differing.remarks == ("BASE is old.json, NEW is new.json",)
    assert [table.title.partition(":")[0] for table in verdicts] == ["plain", "window 500"]
    assert verdicts[0].rows[0][0] == "total"
    assert verdicts[0].rows[0][-1] == "undetermined"
    assert len(comparison_tables([old, new, old])) == 1


def test_single_strategy_is_compared_with_nothing() -> None:
    """With one strategy there is no comparison."""
    assert comparison_tables([result_of({BIND: [round_of(MIXED)]})]) == []


def test_page_has_findings_command_plan_and_environment() -> None:
    """Findings stand above the figures, command, plan and environment below."""
    page = page_of_two()
    finding = next(words for words in page.words["li"] if words.startswith("warning"))
    assert finding.split("\n") == [f"warning {NOTE.text}", NOTE.advice]
    assert page.words["code"] == ["connbench run --window 500 -o 'my file.json'"]
    assert "Findings" in page.words["h2"]
    *_, plan, environment = page.words["table"]
    assert "port_range 9024-65535" in plan
    assert "kernel 6.8.0-test" in environment
    assert "governor -" in environment
    assert "my file" not in environment


def test_unit_stands_beside_what_has_one() -> None:
    """The plan's time-out is in seconds, and the page says so."""
    assert "timeout 5.0 s" in page_of_two().words["table"][-2]


def test_memory_is_in_gigabytes() -> None:
    """The file has bytes, the page GB."""
    result = result_of({PLAIN: [round_of(MIXED)]})
    result.environment["memory_total"] = 25_276_502_016
    table = environment_table(result)
    assert table
    assert ("memory_total", "25.3 GB") in table.rows


def test_csv_has_neither_plan_nor_environment_nor_command() -> None:
    """Of a CSV the page shows the attempts, and says that the range is not known."""
    result = read_csv(csv_rows(two_strategies()), "attempts.csv")
    page = Page(html_page([result]))
    assert "code" not in page.words
    assert not any("Plan" in words for words in page.words["h2"])
    assert any(words.startswith("The range of plain, window 500 is not known") for words in page.words["p"])


def test_many_findings_of_a_kind_are_folded_away() -> None:
    """Two of ten rounds' equal findings stand in full, the others behind a line with their number."""
    alike = tuple(Finding("steal", Severity.WARNING, "stolen", "wait", "bind", number) for number in range(1, 11))
    page = Page(html_page([result_of({BIND: [round_of(MIXED)]}, known=(*alike, NOTE))]))
    assert [words for words in page.words["summary"] if "warning" in words] == ["warning the same of 8 more rounds"]
    warnings = [words for words in page.words["li"] if words.startswith("warning")]
    assert all(any(one.text in words for words in warnings) for one in (*alike, NOTE))


def test_a_sweep_compares_by_its_own_tables() -> None:
    """Speed-ups of total times would compare few connections with many; two sweeps stand side by side."""
    specs = [replace(BIND, load=Load(fill=fill)) for fill in (0.5, 0.8)]
    swept = result_of({spec: [round_of(MIXED)] for spec in specs})
    more = sweep_report.tables(swept, 0.01)
    assert "Comparison" not in Page(html_page([swept], more)).words["h2"]
    assert "Comparison" in Page(html_page([swept])).words["h2"]
    assert "Comparison" in Page(html_page([swept, swept], more)).words["h2"]


def test_no_findings_is_said() -> None:
    """A clean result says so."""
    page = Page(html_page([result_of({BIND: [round_of(samples_of([10_000] * 4))]})]))
    assert any(words.startswith("No findings") for words in page.words["p"])


def test_result_without_a_round_has_a_page() -> None:
    """A run that ended before its first round has no charts, and has a page nevertheless."""
    result = two_strategies()
    result.rounds = {}
    assert Page(html_page([result])).open == []


def test_round_without_an_attempt_has_a_page() -> None:
    """A strategy that broke before its first attempt is listed."""
    broken = round_of(samples_of([]), fault=RunFault("socket() failed"))
    page = Page(html_page([result_of({BIND: [broken], PLAIN: [round_of(MIXED)]})]))
    assert "bind" in page.words["h2"]


def test_hostile_words_stay_words() -> None:
    """Names, kernel, findings, faults, environment and command are shown exactly and become no element."""
    page = Page(html_page([hostile()]))
    tags = [tag for tag, _ in page.elements]
    assert page.open == []
    assert tags.count("script") == 3
    assert {"img", "b"} & set(tags) == set()
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    for place in ("h2", "code", "li", "td", "th", "label", "pre"):
        assert place == "pre" or any(printable(HOSTILE) in words or HOSTILE in words for words in page.words[place]), (
            place
        )
    assert HOSTILE in page.words["title"][0]


def test_hostile_words_do_not_end_the_charts_json() -> None:
    """The script element of the figures contains no character that ends it in HTML or JavaScript."""
    text = html_page([hostile()])
    figures = text.partition('id="figures">')[2].partition("</script>")[0]
    assert re.findall("[<>&\u2028\u2029]", figures) == []
    names = {trace["name"] for trace in json.loads(figures)["scatter"]["data"]}
    assert html.unescape(min(names)).startswith("</script><script>alert(1)</script><img")


@unhurried
@given(st.text())
def test_chart_shows_any_words_to_the_letter(words: str) -> None:
    """No name keeps anything that plotly takes for a tag, an entity, a template or a formula."""
    shown = figures.chart_text(words)
    assert not set("<>%{}$\"'") & set(re.sub(r"&#\d+;", "", shown))
    assert "&" not in re.sub(r"&#\d+;", "", shown)
    expected = words if len(words) <= 60 else words[:59] + "…"
    assert html.unescape(shown) == "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in expected)


def test_name_that_is_no_text_is_shown_as_far_as_it_is() -> None:
    """A file's name may have bytes that are no UTF-8; the page is UTF-8 nevertheless."""
    result = two_strategies()
    result.name = "caf\udce9.json"
    result.rounds = {StrategySpec("odd\udcff"): result.rounds[PLAIN]}
    page = html_page([result])
    assert "caf?.json" in page
    assert page.encode()


def test_policy_allows_the_pages_own_scripts_and_no_network() -> None:
    """The content security policy has the hash of each script, and nothing may be fetched."""
    page = page_of_two()
    [policy] = [str(a["content"]) for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    for script in page.words["script"][1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_page_refers_to_nothing_outside_of_it() -> None:
    """No element has an address but the empty icon's and places in the page itself, so that the page works alone."""
    addresses = [
        a[name] for _, a in page_of_two().elements for name in ("src", "href", "action", "srcset") if name in a
    ]
    assert [address for address in addresses if not (address or "").startswith("#")] == ["data:,"]


def test_scatter_has_every_attempt_in_its_colour() -> None:
    """Each attempt is a point of its parity's trace, or of the trace of its errno, with number, latency and port."""
    traces = page_of_two().figures["scatter"]["data"]
    window = [trace for trace in traces if trace["meta"]["series"] == 1]
    assert [trace["meta"]["group"] for trace in window] == ["even", "odd", "failed", "failed", "failed"]
    even, odd, *failed = window
    assert unpack(even["x"]).tolist() == [1, 3]
    assert unpack(even["y"]).tolist() == pytest.approx([10e-6, 30e-6])
    assert unpack(even["customdata"]).tolist() == [PORTS.low, PORTS.low + 2]
    assert unpack(odd["x"]).tolist() == [2]
    reasons = {int(unpack(trace["x"])[0]): trace["hovertemplate"].partition("errno: ")[2] for trace in failed}
    assert reasons == {
        4: "99 EADDRNOTAVAIL<extra></extra>",
        5: "111 ECONNREFUSED<extra></extra>",
        6: "98 EADDRINUSE<extra></extra>",
    }
    assert all(trace["type"] == "scattergl" for trace in traces)


def test_numbers_are_packed_in_the_smallest_type_they_fit() -> None:
    """Ports take two bytes; the numbers of a million attempts take four."""
    assert figures.packed(np.array([65_535]))["dtype"] == "u2"
    assert figures.packed(np.array([65_536]))["dtype"] == "u4"
    assert unpack(figures.packed(np.array([1_000_000, 3]))).tolist() == [1_000_000, 3]


def test_rare_errnos_share_a_trace() -> None:
    """However many errnos a file has, the chart has few traces, and loses no attempt."""
    numbers = [0, 0, *([99] * 5), *range(1, 40)]
    groups = figures.groups_of(samples_of([1000] * len(numbers), errno=numbers))
    assert len(groups) == 2 + figures.MOST_ERRNOS + 1
    assert groups[2].errno == "99 EADDRNOTAVAIL"
    assert groups[-1].errno == "a rare one"
    assert sum(int(group.chosen.sum()) for group in groups) == len(numbers)


def test_round_of_the_median_total_is_drawn() -> None:
    """Of three rounds the page draws the one in the middle, and says which."""
    rounds = [round_of(samples_of([ns] * 50), number) for number, ns in enumerate((9000, 1000, 5000), 1)]
    result = result_of({BIND: rounds})
    assert figures.shown_round(result.strategies[0]).number == 3
    page = Page(html_page([result]))
    assert any(words.startswith("bind: round 3 of 3 is drawn") for words in page.words["p"])


def test_partial_round_is_drawn_only_if_there_is_no_other() -> None:
    """A complete round is drawn before a longer one that was cut short; without one, the longest is drawn."""
    cut = [round_of(samples_of([1000] * n), n, fault=RunFault("x")) for n in (3, 9)]
    whole = round_of(samples_of([1000] * 4), 1)
    assert figures.shown_round(result_of({BIND: [*cut, whole]}).strategies[0]) is whole
    assert figures.shown_round(result_of({BIND: cut}).strategies[0]) is cut[1]


def test_too_many_attempts_are_thinned_evenly_but_for_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit one attempt in n is drawn, the slowest of each parity remain, and the page says so."""
    monkeypatch.setattr(figures, "MOST_POINTS", 1000)
    latency = np.full(10_000, 1000)
    latency[7777] = 9_999_999
    result = result_of({BIND: [round_of(samples_of(latency.tolist()))]})
    page = Page(html_page([result]))
    traces = page.figures["scatter"]["data"]
    drawn = np.concatenate([unpack(trace["x"]) for trace in traces])
    assert 1000 <= len(drawn) <= 1000 + 2 * figures.SLOWEST_KEPT
    assert 7778 in drawn
    assert any("1 in 10 is drawn" in words for words in page.words["p"])


def test_slowest_hundred_are_kept_and_no_more() -> None:
    """Of attempts that would be left out, the hundred slowest are drawn, and the next slowest is not."""
    latency = np.arange(10_000, 0, -1)
    latency[5::20] = np.arange(20_000, 20_000 + 500)
    samples = samples_of(latency.tolist())
    drawn = figures.thinned(samples, np.ones(len(samples), dtype=np.bool_), 10)
    assert drawn.tolist() == sorted([*range(0, 10_000, 10), *range(5 + 20 * 400, 10_000, 20)])
    assert len(range(5 + 20 * 400, 10_000, 20)) == figures.SLOWEST_KEPT == 100


def step(ports: int = 2000) -> Samples:
    """Fast over even ports until half is used, then slow over odd ones."""
    half = ports // 2
    return samples_of(
        [10_000] * half + [1_000_000] * half, port=[*range(9024, 9024 + ports, 2), *range(9025, 9025 + ports, 2)]
    )


def test_utilisation_has_median_p99_and_the_knee() -> None:
    """The lines run over the share of the range, and the knee is marked at it, with its connection."""
    result = result_of({PLAIN: [round_of(step())]})
    median, p99, knee = figures.utilisation(series_of([result]))["data"]
    share = unpack(median["x"])
    assert share[-1] == pytest.approx(2000 / len(PORTS), rel=0.02)
    values = unpack(median["y"])
    assert values[share < 900 / len(PORTS)] == pytest.approx(10e-6)
    assert values[share > 1100 / len(PORTS)] == pytest.approx(1e-3)
    assert (p99["meta"]["group"], p99["line"]["dash"]) == ("p99", "dot")
    assert knee["x"] == [1000 / len(PORTS)]
    assert "<br>connection 1,001<br>1.8% in use<br>" in knee["hovertemplate"]
    assert knee["text"] == ["plain: 1.8%"]


def test_strategy_without_a_knee_has_lines_alone() -> None:
    """Where nothing turns slow nothing is marked."""
    result = result_of({PLAIN: [round_of(samples_of([10_000] * 2000))]})
    assert [trace["meta"]["group"] for trace in figures.utilisation(series_of([result]))["data"]] == ["median", "p99"]


def test_unknown_range_is_taken_as_the_connections_made() -> None:
    """A CSV's lines run to the end of the axis."""
    result = read_csv(csv_rows(result_of({PLAIN: [round_of(step())]})), "a.csv")
    median, _, knee = figures.utilisation(series_of([result]))["data"]
    assert unpack(median["x"])[-1] == pytest.approx(1, abs=0.02)
    assert knee["x"] == [0.5]


def test_nine_full_strategies_take_less_than_25_megabytes() -> None:
    """The largest run of the talk's kind makes a page of at most 25 MB, with every attempt in it."""
    rng = np.random.default_rng(1)
    specs = [PLAIN, BIND, *(replace(WINDOW, window=100 * n, placement=Placement.INSIDE) for n in range(1, 8))]
    rounds = [round_of(samples_of(rng.integers(10_000, 10_000_000, len(PORTS)).tolist())) for _ in specs]
    page = html_page([result_of({spec: [measured] for spec, measured in zip(specs, rounds, strict=True)})])
    assert len(page.encode()) < 25e6
    traces = Page(page).figures["scatter"]["data"]
    assert sum(len(unpack(trace["x"])) for trace in traces) == 9 * len(PORTS)


@pytest.mark.parametrize("library", ["jinja2", "plotly"])
def test_missing_library_is_named_with_the_way_to_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra a fault says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "plotly.offline", raising=False)
    with pytest.raises(EnvironmentFault, match=f"needs {library}") as caught:
        html_page([two_strategies()])
    assert caught.value.hint == "pip install 'connbench[html]'"


def test_charts_of_many_strategies_draw_the_first_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each strategy has its tables; the charts and their switches stop at what a browser can draw."""
    monkeypatch.setattr(page, "MOST_DRAWN", 2)
    some = [StrategySpec("window", size) for size in (100, 200, 300)]
    html = html_page([result_of({spec: [round_of(samples_of([10_000] * 60))] for spec in some})])
    assert "The first 2 of 3 strategies are drawn." in html
    assert html.count('name="series" value=') == 2
    assert html.count('<section class="strategy">') == 3
