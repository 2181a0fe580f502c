"""What `connbench inspect` prints: text, Markdown, JSON, CSV and Prometheus's text, from sockets made by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import chain, repeat
from typing import Any, Never

import numpy as np
import pytest
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families

from connbench.errors import InputError
from connbench.findings import Finding, Severity
from connbench.inspect import report
from connbench.inspect.forecast import Forecast
from connbench.inspect.inspection import Inspection, Model, inspect
from connbench.inspect.metrics import openmetrics, prometheus
from connbench.inspect.path_gate import evaluate
from connbench.inspect.rates import Rates
from connbench.inspect.remedy import Remedy
from connbench.inspect.snapshot import Process, Settings, Snapshot
from connbench.inspect.sockets import Sockets, State, address_words
from connbench.model import PortRange
from connbench.path_conditions import parse_condition
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL
from connbench.portmodel.next_search import Half
from connbench.report.path_report import COLUMNS
from connbench.results.inspection_file import ConditionRecord, RemedyRecord, read_inspection
from connbench.safe_text import printable_lines
from factories import too_wide
from json_units import without_unit

RANGE = PortRange(32768, 60999)
SOURCE, TARGET = "10.0.0.5", "10.1.2.3"
LONG = "2001:db8:85a3:1234:5678:8a2e:1370:7334"
SETTINGS = Settings(RANGE, kernel="6.18.0-1-amd64")
MODEL = Model(Algorithm.FROM_6_8, "probed", USUAL)
MEASURED = replace(MODEL, calibration=replace(USUAL, residual=0.02, origin="costs.json"))

FULL = (
    Forecast("plain", Half.SECOND, 14116.2, 0.0, 614_000.0, 0, 332),
    Forecast("window 500", None, 112.3, 0.0041, 21_400.0, None, 332),
    Forecast("range", None, 84.2, 0.0, 19_700.0, None, 332),
)
EASY = (Forecast("plain", Half.FIRST, 1.02, 0.0, 13_100.0, 13_996, 28_112),)
EXHAUSTED = (Forecast("plain", Half.NONE, 28_232.0, 1.0, 1_300_000.0, 0, 0),)
UDP = (Forecast("plain", None, None, None, None, None, 28_112),)

ADVICE = Remedy(("Do: let the server close first.",), "connbench advise -n 6383 --rate 21517/min --closes-first client")
LISTENER = Finding("listener-in-range", Severity.WARNING, "40000 has a listener", "reserve it")


def connections(
    ports: int, time_wait: int = 0, left_ms: Sequence[int] = (), *, ends: tuple[str, str, int] = (SOURCE, TARGET, 443)
) -> Sockets:
    """Connections of one path: even ports first, the first ones in TIME_WAIT; its timers repeat `left_ms`."""
    (family, local), (_, remote) = address_words(ends[0]), address_words(ends[1])
    numbers = np.arange(ports)
    left = np.full(ports, -1)
    if left_ms:
        left[:time_wait] = np.resize(left_ms, time_wait)
    return Sockets.of(
        protocol=np.full(ports, 6),
        family=np.full(ports, family),
        state=np.where(numbers < time_wait, State.TIME_WAIT, State.ESTABLISHED),
        expires_ms=left,
        local=np.tile(np.array(local, dtype=np.uint64), (ports, 1)),
        remote=np.tile(np.array(remote, dtype=np.uint64), (ports, 1)),
        local_port=RANGE.low + numbers * 2 % len(RANGE) + numbers * 2 // len(RANGE),
        remote_port=np.full(ports, ends[2]),
    )


def inspected(
    *paths: Sockets, forecasts: Sequence[Sequence[Forecast]] = (), most_rows: int | None = None
) -> Inspection:
    """An inspection of one namespace, with forecasts for the rows in their order."""
    snapshot = Snapshot(Sockets.concatenate(paths), SETTINGS, seconds=0.0312)
    inspection = inspect([snapshot], most_rows)
    rows = [
        replace(row, forecasts=one) for row, one in zip(inspection.rows, chain(forecasts, repeat(())), strict=False)
    ]
    return replace(inspection, rows=rows, model=MODEL, remedy=None)


HURTS = replace(
    inspected(
        connections(27_900, 21_517, range(1_000, 61_000, 1_000)),
        connections(120, ends=(SOURCE, "10.1.2.4", 443)),
        connections(3, ends=(LONG, LONG, 65535)),
        forecasts=(FULL, EASY, EASY),
    ),
    findings=(LISTENER,),
    remedy=ADVICE,
)
"""A host whose ports towards one target are nearly all in use."""


TEXT = """\
read     28,023 sockets of this network namespace in 31 ms; 3 paths
ports    32768-60999
kernel   6.18.0-1-amd64: the search of Linux 6.8 and later (probed)
times    usual costs of one machine; connbench calibrate -o FILE measures yours
         (5 s)

source -> target            used  share    free  ESTAB  TIME_WAIT  ≤15 s left
10.0.0.5 -> 10.1.2.3:443  27,900  98.8%     332  6,383     21,517       5,385
10.0.0.5 -> 10.1.2.4:443     120   0.4%  28,112    120          0           0
2001:db8:85a3:1234:5678:8a2e:1370:7334 ->
  [2001:db8:85a3:1234:5678:8a2e:1370:7334]:65535
                               3   0.0%  28,229      3          0           0

next connect() 10.0.0.5 -> 10.1.2.3:443
                     ports                         until       until
strategy    half    probed          time  fails     knee  exhaustion
plain       second  14,116  about 610 µs      -   passed         332
window 500  -          112   about 21 µs   0.4%  no knee         332
range       -           84   about 20 µs      -  no knee         332
14,116 even and 13,784 odd ports
TIME_WAIT: 358/s enter it, 359/s leave it; 5,385 in 15 s, 10,770 in 30 s, 16,147
  in 45 s, 21,517 in 60 s will have left it
in the last 10.0 s: 100 connections opened, 20 gone

warning: 40000 has a listener
  -> reserve it

verdict: 10.0.0.5 -> 10.1.2.3:443 uses 27,900 of 28,232 ports (98.8 %), 21,517
  of them in TIME_WAIT: each connect() probes 14,116 ports first, about 610 µs;
  exhausted in 41.5 s at 8/s.
Do: let the server close first.
Next: connbench advise -n 6383 --rate 21517/min --closes-first client
"""


def growing(inspection: Inspection, opened: int, gone: int = 0) -> Inspection:
    """The same, with so many connections opened and gone on the fullest path in the last 10 s."""
    first, *others = inspection.rows
    return replace(inspection, rows=[replace(first, rates=Rates(10.0, opened, gone)), *others])


def test_text_fits_a_terminal_and_ends_with_what_to_do() -> None:
    """What a person needs whose host is out of ports stands in 80 columns; the command is not folded."""
    text = report.text(growing(HURTS, 100, 20), 80)
    assert too_wide(text) == []
    assert text.splitlines() == TEXT.splitlines()


def test_a_pipe_has_every_column_and_whole_lines() -> None:
    """Each path is one line, with others, even and odd."""
    lines = report.text(HURTS).splitlines()
    header = next(line for line in lines if line.startswith("source -> target"))
    assert header.split()[3:] == [
        "used",
        "share",
        "free",
        "ESTAB",
        "TIME_WAIT",
        "≤15",
        "s",
        "left",
        "others",
        "even",
        "odd",
    ]
    [row] = [line for line in lines if line.startswith(f"{LONG} ->")]
    assert row.split()[:3] == [LONG, "->", f"[{LONG}]:65535"]
    assert [line for line in lines if line.startswith("verdict: ")] == [f"verdict: {report.verdict(HURTS)[0]}"]


@pytest.mark.parametrize(
    ("width", "last"), [(75, "≤15 s left"), (82, "≤15 s left"), (83, "others"), (98, "others"), (99, "odd")]
)
def test_a_wide_terminal_has_more_columns(width: int, last: str) -> None:
    """Even and odd ports come together; what tells how full a path is comes first."""
    narrow = inspected(connections(27_900, 21_517, [5_000]))
    [header] = [line for line in report.text(narrow, width).splitlines() if line.startswith("source -> target")]
    assert header.endswith(last)
    assert len(header) <= width


@pytest.mark.parametrize(("paths", "namespaces"), [(1, 1), (300, 1), (0, 40), (3, 40)])
def test_any_number_of_paths_and_namespaces_fits_a_terminal(paths: int, namespaces: int) -> None:
    """Long IPv6 addresses and long names of namespaces are folded; no line is wider than the terminal."""
    many = Sockets.concatenate([connections(2, 1, ends=(LONG, LONG, 1000 + i)) for i in range(paths)])
    snapshots = [Snapshot(many, SETTINGS, namespace=f"cni-5f3c2a90-{i}" * bool(i)) for i in range(namespaces)]
    inspection = inspect(snapshots)
    assert len(inspection.rows) == paths * namespaces
    text = report.text(inspection, 80)
    assert [line for line in too_wide(text) if LONG not in line] == []
    assert text.count(f"{LONG} ->") >= len(inspection.rows)


# ---- the verdict


def test_verdict_on_a_path_beyond_the_knee() -> None:
    """How full it is, what each connect() costs, and when it ends; then the sentences of the remedy."""
    first, second = report.verdict(growing(HURTS, 100, 20))
    assert first == (
        "10.0.0.5 -> 10.1.2.3:443 uses 27,900 of 28,232 ports (98.8 %), 21,517 of them in TIME_WAIT: each connect()"
        " probes 14,116 ports first, about 610 µs; exhausted in 41.5 s at 8/s."
    )
    assert second == "Do: let the server close first."


def test_times_of_a_calibration_are_not_about() -> None:
    """Usual costs are those of another machine; measured ones are this machine's."""
    assert "probes 14,116 ports first, 614 µs; " in report.verdict(replace(HURTS, model=MEASURED))[0]
    assert "costs of costs.json" in report.text(replace(HURTS, model=MEASURED))


@pytest.mark.parametrize(("opened", "gone"), [(10, 10), (0, 50)])
def test_end_is_foretold_only_where_a_path_grows(opened: int, gone: int) -> None:
    """A path that shrinks or stays as it is has no such time."""
    assert "exhausted" not in report.verdict(growing(HURTS, opened, gone))[0]


def test_growth_of_one_dump_is_that_of_its_timers() -> None:
    """300 closed in the last 10 s and 100 leave in the next 10 s: 20/s more; as many that leave are no growth."""
    grows = inspected(connections(27_900, 400, [55_000, 55_000, 55_000, 5_000]), forecasts=[FULL])
    assert "; exhausted in 16.6 s at 20/s." in report.verdict(grows)[0]
    steady = inspected(connections(27_900, 400, [55_000, 5_000]), forecasts=[FULL])
    assert "exhausted" not in report.verdict(steady)[0]
    few = inspected(connections(27_900, 3, [55_000]), forecasts=[FULL])
    assert few.rows[0].growth_per_s == 0, "three more may be chance"


def test_time_wait_alone_does_not_grow_beyond_a_minute_of_closes() -> None:
    """40 connections a second, begun 10 s ago, end at 2,400 ports; 500 a second would fill the range."""
    begun = inspected(connections(400, 400, [55_000]), forecasts=[EASY])
    assert begun.rows[0].growth_per_s == 40
    assert (begun.rows[0].slow_in_s, begun.rows[0].exhausted_in_s) == (None, None)
    assert report.verdict(begun)[0].startswith("No path is short of ports: ")
    fast = inspected(connections(5_000, 5_000, [55_000]), forecasts=[EASY])
    assert report.verdict(fast)[0].endswith("about 13 µs; slow in 28.0 s at 500/s.")
    faster = fast.rows[0]
    assert (faster.slow_in_s, faster.exhausted_in_s) == (13_996 / 500, None)
    assert faster.time_until(25_000) == 50


def test_ports_that_connect_takes_again_from_time_wait_do_not_run_out() -> None:
    """Over the loopback tcp_tw_reuse=2 lets connect() take them after a second."""
    local = connections(27_900, 400, [55_000], ends=("127.0.0.1", "127.0.0.1", 80))
    assert inspected(local).rows[0].growth_per_s is None
    taken_again = inspected(local, forecasts=[EASY])
    assert "400 of them in TIME_WAIT, from which connect() takes ports again" in report.verdict(taken_again)[0]


def test_verdict_on_an_exhausted_path() -> None:
    """The error that programs see, what it costs to get it, and when ports are free again."""
    full = inspected(connections(28_232, 20_000, [5_000, 40_000]), forecasts=[EXHAUSTED])
    assert "".join(report.verdict(full)) == (
        "10.0.0.5 -> 10.1.2.3:443 uses all 28,232 ports, 20,000 of them in TIME_WAIT: connect() fails with"
        " EADDRNOTAVAIL after it has probed 28,232 ports, about 1.3 ms; 10,000 ports will have left TIME_WAIT in 15 s."
    )


def test_verdict_names_the_state_that_holds_most_ports() -> None:
    """A program that does not close its sockets leaves them in CLOSE_WAIT."""
    leaking = connections(20_000)
    leaking.state[5_000:] = State.CLOSE_WAIT
    assert ", 15,000 of them in CLOSE-WAIT: " in report.verdict(inspected(leaking, forecasts=[FULL]))[0]


def test_a_calm_host_gets_one_calm_sentence() -> None:
    """Below the knee nothing is wrong; nor without connections, or without sockets."""
    calm = inspected(connections(120), connections(9, ends=(SOURCE, TARGET, 80)), forecasts=(EASY, EASY))
    assert "".join(report.verdict(calm)) == (
        "No path is short of ports: the fullest path, 10.0.0.5 -> 10.1.2.3:443, uses 120 of 28,232 ports (0.4 %), and"
        " connect() probes 1 port, about 13 µs."
    )
    assert report.verdict(inspected()) == (
        "No path is short of ports: no outgoing connection has a port of 32768-60999.",
    )
    assert (
        report.text(inspected(), 80).splitlines()[0] == "read     0 sockets of this network namespace in 31 ms; 0 paths"
    )


def test_a_path_that_will_soon_be_slow_needs_attention() -> None:
    """At 100 a second 13,996 connections until the knee take 140 s; at 1 a second nobody needs to hurry."""
    calm = inspected(connections(120), forecasts=(EASY,))
    assert "".join(report.verdict(growing(calm, 1000))) == (
        "10.0.0.5 -> 10.1.2.3:443 uses 120 of 28,232 ports (0.4 %): the next connect() probes 1 port, about 13 µs; slow"
        " in 2 min 20 s and exhausted in 4 min 41 s at 100/s."
    )
    assert report.verdict(growing(calm, 10))[0].startswith("No path is short of ports")


def test_a_path_close_to_its_knee_needs_attention() -> None:
    """Few connections make connect() slow there, whether or not the path grows at this moment."""
    near = Forecast("plain", Half.FIRST, 131.0, 0.0, 19_000.0, 115, 14_231)
    assert "".join(report.verdict(inspected(connections(14_001), forecasts=[(near,)]))) == (
        "10.0.0.5 -> 10.1.2.3:443 uses 14,001 of 28,232 ports (49.6 %): the next connect() probes 131 ports, about"
        " 19 µs; 115 more connections until connect() is slow."
    )
    far = replace(near, until_knee=2_900)
    assert report.verdict(inspected(connections(11_200), forecasts=[(far,)]))[0].startswith("No path is short of ports")


def test_other_paths_that_are_as_bad_are_counted() -> None:
    """The verdict describes the fullest; the text has forecasts for three of them."""
    paths = [connections(20_000 + i, ends=(SOURCE, TARGET, i)) for i in range(1, 6)]
    bad = inspected(*paths, forecasts=[FULL] * 4 + [EASY])
    assert report.verdict(bad)[1] == "connect() is slow or short of ports, or nearly so, on 3 more paths."
    assert report.text(bad).count("next connect()") == 3


def test_verdict_does_not_depend_on_the_rows_shown() -> None:
    """A slow path that is not shown is told, and has its forecasts; and so is that there may be more."""
    calm = [connections(9, ends=("10.0.0.6", TARGET, port)) for port in range(4)]
    slow = [connections(14_200, ends=(SOURCE, TARGET, port)) for port in range(21)]
    few, many = (inspect([Snapshot(Sockets.concatenate(its), SETTINGS)], 1) for its in (calm, [*calm, *slow]))
    assert few.remedy is None
    assert report.verdict(few)[0].startswith("No path is short of ports")
    assert many.remedy
    assert "connect() is slow or short of ports, or nearly so, on at least 19 more paths." in report.verdict(many)
    hidden = replace(many, rows=few.rows, further=many.rows)
    assert report.verdict(hidden)[0].startswith(f"{many.rows[0].name} uses 14,200 of 28,232 ports")
    assert f"next connect() {many.rows[0].name}" in report.text(hidden)


def test_exactly_nine_tenths_are_nearly_full() -> None:
    """Whatever a float makes of it; one port less is not."""
    forecasts = [(replace(EASY[0], until_exhaustion=28_230 - used),) for used in (25_407, 25_406)]
    ends = [(SOURCE, TARGET, port) for port in (1, 2)]
    found = inspected(*(connections(used, ends=one) for used, one in zip((25_407, 25_406), ends, strict=True)))
    rows = [
        replace(row, path=replace(row.path, usable=28_230), forecasts=one)
        for row, one in zip(found.rows, forecasts, strict=True)
    ]
    assert [row.needs_attention for row in rows] == [True, False]


def test_knee_of_a_range_of_few_ports_is_not_slow() -> None:
    """Past it 50 ports are probed: less than the rest of connect() takes."""
    settings = replace(SETTINGS, ports=PortRange(RANGE.low, RANGE.low + 99))
    sockets = connections(60)
    sockets.local_port[:] = RANGE.low + np.append(np.arange(0, 100, 2), np.arange(1, 21, 2))
    found = inspect([Snapshot(sockets, settings)])
    assert found.rows[0].next
    assert found.rows[0].next.half is Half.SECOND
    assert report.verdict(found)[0].startswith("No path is short of ports")


# ---- other namespaces, files, words of others


def test_paths_left_out_are_counted() -> None:
    """The table says how to see them; the totals count them."""
    few = inspected(*(connections(9, ends=(SOURCE, TARGET, port)) for port in (1, 2, 3)), most_rows=1)
    text = report.text(few)
    assert "27 sockets of this network namespace in 31 ms; 3 paths" in text
    assert "and 2 more paths: --top 0 shows all" in text


def text_line(inspection: Inspection, label: str) -> str:
    """The line of the text that begins with a label."""
    return next(line for line in report.text(inspection).splitlines() if line.startswith(f"{label} "))


def test_namespaces_are_named() -> None:
    """A row names its own, unless it is this one; of several, ranges that differ are counted."""
    here = Snapshot(connections(5), SETTINGS)
    web = replace(here, namespace="web", settings=replace(SETTINGS, ports=PortRange(1024, 65535)))
    assert "of namespace web in" in report.text(inspect([web]))
    both = report.text(inspect([here, web]))
    assert "10 sockets of 2 namespaces in" in both
    assert "32768-60999 in 1 namespace; 1024-65535 in 1 namespace" in both
    own = [replace(web, settings=replace(SETTINGS, ports=PortRange(20_000, 30_000 + i))) for i in range(9)]
    assert text_line(inspect([here, here, *own]), "ports").endswith("; others in 7 namespaces")
    names = [row.name for row in inspect([here, web]).rows]
    assert names == [f"{SOURCE} -> {TARGET}:443", f"web: {SOURCE} -> {TARGET}:443"]


def test_a_file_is_named_with_what_was_assumed() -> None:
    """A dump says nothing about the settings of its host, and does not lead to a calibration of this one."""
    file = Snapshot(connections(5, 2), replace(SETTINGS, kernel=""), origin="ss.txt")
    text = report.text(replace(inspect([file]), model=MODEL, assumed=["range 32768-60999 (--port-range)"]))
    assert "5 sockets of ss.txt in" in text
    assert "assumed  range 32768-60999 (--port-range)" in text
    assert "measures yours" not in text
    assert "kernel   the search of Linux 6.8 and later (probed)" in text
    [row] = [line for line in text.splitlines() if line.startswith(f"{SOURCE} -> {TARGET}:443 ")]
    assert row.split()[-4] == "-", "timers are not known"


def test_ports_that_no_search_can_choose_are_told() -> None:
    """Reserved ports, and those that bind() took for every target."""
    bound = connections(2)
    bound.state[1], bound.remote_port[1] = State.LISTEN, 0
    settings = replace(SETTINGS, reserved=frozenset({40_000, 40_001, 80}))
    text = report.text(inspect([Snapshot(bound, settings)]))
    assert "32768-60999 (2 of its ports reserved), 1 taken by bind()" in text
    alone = inspect([Snapshot(bound[np.array([1])], settings)])
    assert report.verdict(alone) == ("No path is short of ports: no outgoing connection has a port of 32768-60999.",)


@pytest.mark.parametrize("write", [report.text, report.markdown, report.csv, prometheus, openmetrics, report.json])
def test_words_of_others_are_safe_in_every_format(write: Callable[[Inspection], str]) -> None:
    """The name of a namespace or a file neither steers a terminal nor commands a CI runner."""
    hostile = "=a\x1b[2J\n::error ::x##[debug]"
    here = Snapshot(connections(2), SETTINGS)
    snapshots = [replace(here, namespace=hostile, origin=hostile), here]
    written = write(replace(inspect(snapshots), assumed=[hostile]))
    shown = written if write is report.json else printable_lines(written)  # as print_text prints it
    assert "\x1b" not in shown
    assert "\n::error" not in shown
    assert "##[" not in shown


def test_udp_has_no_forecast_of_a_search() -> None:
    """No model knows how many slots of its hash table the kernel looks at."""
    udp = connections(28_232)
    udp.protocol[:] = 17
    calm = inspected(udp[np.arange(120)], forecasts=[UDP])
    assert report.verdict(calm) == (
        "No path is short of ports: 10.0.0.5 -> 10.1.2.3:443 (udp) uses 120 of 28,232 ports (0.4 %).",
    )
    [cells] = [line.split() for line in report.text(calm).splitlines() if line.startswith("plain ")]
    assert cells == ["plain", "-", "-", "-", "-", "no", "knee", "28,112"]
    full = inspected(udp, forecasts=[(replace(UDP[0], until_exhaustion=0),)])
    assert report.verdict(full)[0].endswith("uses all 28,232 ports: connect() fails with EAGAIN.")
    assert [row["plain_connect_ns"] for row in rows_of(full)] == [""]
    assert not [name for name, _ in metrics_of(full) if name == "connbench_inspect_next_connect_seconds"]


def test_a_device_and_udp_are_part_of_a_name() -> None:
    """Sockets bound to different devices may have the same 4-tuple; the same port serves TCP and UDP."""
    two = Sockets.concatenate([connections(2), connections(2)])
    two.interface[:2] = 7
    two.protocol[2:] = 17
    text = report.text(inspected(two))
    assert f"{SOURCE}%7 -> {TARGET}:443 " in text
    assert f"{SOURCE} -> {TARGET}:443 (udp)" in text


# ---- for programs and pages


def test_markdown_has_the_verdict_first_and_the_command_as_code() -> None:
    """The table has every column, a row for each path."""
    text = report.markdown(HURTS)
    assert text.startswith("10.0.0.5 -&gt; 10.1.2.3:443 uses 27,900 of 28,232 ports (98.8 %)")
    assert f"```text\n{ADVICE.command}\n```" in text
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert page.count("<table>") == 2
    assert f"<td>{LONG} -&gt; [{LONG}]:65535</td>" in page


def document(inspection: Inspection) -> dict[str, Any]:
    """The JSON document, read as strictly as any reader may."""

    def refuse(constant: str) -> Never:
        raise AssertionError(f"{constant} in a JSON document")

    read: dict[str, Any] = json.loads(report.json(inspection), parse_constant=refuse)
    return read


def test_json_has_everything() -> None:
    """Settings, search, costs, and each path with its forecasts."""
    read = document(growing(HURTS, 100, 20))
    assert (read["sockets"], read["paths"], read["algorithm"], read["algorithm_known_by"]) == (
        28_023,
        3,
        "6.8",
        "probed",
    )
    assert read["verdict"] == list(report.verdict(growing(HURTS, 100, 20)))
    assert read["calibration"]["origin"] == USUAL.origin
    assert read["remedy"] == {"sentences": list(ADVICE.sentences), "command": ADVICE.command}
    assert read["findings"] == [asdict(LISTENER)]
    assert read["namespaces"][0].items() >= {"read_s": 0.0312, "port_range": asdict(RANGE), "blocked_ports": []}.items()
    row = read["rows"][0]
    assert (row["used"], row["usable"], row["free"], row["used_share"]) == (27_900, 28_232, 332, 27_900 / 28_232)
    assert (row["growth_per_s"], row["exhausted_in_s"]) == (8.0, 41.5)
    assert row["time_wait_left"][0] == {"within_s": 15, "connections": HURTS.rows[0].path.time_wait_left[15]}
    assert row["forecasts"] == [asdict(one) for one in FULL]
    assert (row["source"], row["target"], row["target_port"], row["namespace"]) == (SOURCE, TARGET, 443, "")


def with_processes(cgroup: str = "/system.slice/nginx.service") -> Inspection:
    """Three connections, of which two have a process."""
    sockets = connections(3)
    sockets.inode[:2] = (11, 12)
    nginx = (Process(812, "nginx", cgroup),)
    return inspect([Snapshot(sockets, SETTINGS, processes={11: nginx, 12: nginx})])


def test_programs_are_told_where_they_were_asked_for() -> None:
    """In the text of the fullest paths, and in each row of the JSON."""
    inspection = with_processes()
    assert "nginx        2  812        nginx.service" in report.text(inspection)
    [row] = document(inspection)["rows"]
    assert row["programs"]["programs"] == [{"name": "nginx", "unit": "nginx.service", "pids": [812], "ports": 2}]
    assert row["programs"]["without_process"] == {"time_wait": 0, "closed": 1, "hidden": 0}
    assert document(HURTS)["rows"][0]["programs"] is None
    pod = f"/kubepods/burstable/pod{'a' * 32}/{'b' * 64}"
    assert too_wide(report.text(with_processes(pod), 80)) == []
    assert pod in report.json(with_processes(pod))


def test_json_of_nothing_parses() -> None:
    """Without a remedy or sockets there are nulls and empty lists."""
    read = document(inspect([Snapshot(Sockets.empty(), SETTINGS)]))
    assert (read["remedy"], read["rows"]) == (None, [])


def test_every_number_of_the_json_has_a_unit() -> None:
    """In its name, or in docs/figures.md."""
    others = connections(50)
    others.state[3:9] = State.FIN_WAIT2
    listener = connections(1, ends=(SOURCE, SOURCE, 0))
    listener.state[:] = State.LISTEN
    inspection = replace(growing(inspected(others, listener, forecasts=[FULL]), 100, 20), model=MEASURED)
    [namespace] = document(inspection)["namespaces"]
    assert namespace["listeners"] == [{"address": SOURCE, "port": RANGE.low, "state": "LISTEN"}]
    assert without_unit(document(replace(inspection, remedy=ADVICE, findings=[LISTENER]))) == set()
    assert without_unit(document(with_processes())) == set()


def rows_of(inspection: Inspection) -> list[dict[str, str]]:
    """The rows of the CSV, by the names of the header."""
    return list(csv.DictReader(io.StringIO(report.csv(inspection)), strict=True))


def test_csv_reads_back() -> None:
    """A row for each path with the figures of the JSON; a cell is empty where JSON has null."""
    inspection = growing(HURTS, 100, 20)
    rows, documents = rows_of(inspection), document(inspection)["rows"]
    assert len(rows) == len(documents) == 3
    for row, one in zip(rows, documents, strict=True):
        assert [row[name] for name in COLUMNS] == [str(one[name]) for name in COLUMNS]
        assert float(row["used_share"]) == one["used_share"]
        for name in ("closing_per_s", "growth_per_s", "exhausted_in_s"):
            assert (float(row[name]) if row[name] else None) == one[name]
    assert rows[0].items() >= {"plain_half": "second", "window_until_knee": "", "range_until_exhaustion": "332"}.items()
    assert rows[1]["range_half"] == ""


def test_document_is_read_back() -> None:
    """`fleet inspect` reads what `inspect` writes: paths, the remedy, findings, and what became of each condition."""
    [condition] = evaluate([parse_condition("used > 80%")], HURTS, lambda *_: ())
    read = read_inspection(report.json(HURTS, [condition]).encode(), "web1")
    assert list(read.rows) == [report.record(row) for row in HURTS.rows]
    assert [row.name for row in read.rows] == [row.name for row in HURTS.rows]
    assert (list(read.verdict), list(read.findings)) == (list(report.verdict(HURTS)), list(HURTS.findings))
    assert read.remedy == (HURTS.remedy and RemedyRecord(list(HURTS.remedy.sentences), HURTS.remedy.command))
    assert read.conditions == [ConditionRecord("used > 80%", HURTS.rows[0].name, condition.outcome)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": 2}, "schema 2"),
        ({"sockets": -1}, "sockets"),
        ({"paths": 1e300}, "paths"),
        ({"verdict": ["x" * 3000]}, "verdict"),
        ({"rows": [{}]}, "namespace"),
    ],
)
def test_document_that_no_inspect_writes_is_refused(change: dict[str, object], named: str) -> None:
    """A host may send anything: the message says whose answer it is, and what is wrong with it."""
    document = json.loads(report.json(HURTS)) | change
    with pytest.raises(InputError, match=f"web1 .*{named}"):
        read_inspection(json.dumps(document).encode(), "web1")
    with pytest.raises(InputError, match="web1"):
        read_inspection(b"[" * 100_000, "web1")


def test_csv_without_paths_has_its_header() -> None:
    """A reader finds the columns of a path."""
    assert rows_of(inspected()) == []
    assert report.csv(inspected()).startswith("namespace,protocol,source,target,target_port,interface,used,")


def test_csv_holds_no_formula() -> None:
    """A namespace may be named `=1+1`."""
    named = inspect([Snapshot(connections(1), SETTINGS, namespace="=1+1")])
    assert [row["namespace"] for row in rows_of(named)] == ["'=1+1"]


def metrics_of(inspection: Inspection) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples by name and labels, read by prometheus_client's parser; none of them twice."""
    families = list(text_string_to_metric_families(prometheus(inspection)))
    samples = [sample for family in families for sample in family.samples]
    found = {(one.name, frozenset(one.labels.items())): one.value for one in samples}
    assert len(found) == len(samples)
    assert all(family.documentation and family.name.startswith("connbench_inspect") for family in families)
    assert all(one.timestamp is None for one in samples)
    return found


PATH = {"namespace": "", "protocol": "tcp", "source": SOURCE, "target": TARGET, "target_port": "443"}


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("sockets", {"namespace": "", "protocol": "tcp", "state": "TIME-WAIT"}, 21_517),
        ("paths", {"namespace": ""}, 3),
        ("range_ports", {"namespace": ""}, 28_232),
        ("read_seconds", {"namespace": ""}, 0.0312),
        ("used_ports", {**PATH, "parity": "even"}, 14_116),
        ("used_ports", {**PATH, "parity": "odd"}, 13_784),
        ("usable_ports", PATH, 28_232),
        ("connections", {**PATH, "state": "ESTAB"}, 6_383),
        ("growth_per_second", PATH, 8),
        ("exhausted_in_seconds", PATH, 41.5),
        ("next_ports_probed", {**PATH, "strategy": "plain"}, 14116.2),
        ("next_connect_seconds", {**PATH, "strategy": "range"}, 19.7e-6),
        ("until_knee_connections", {**PATH, "strategy": "plain"}, 0),
        ("until_exhaustion_connections", {**PATH, "strategy": "window 500"}, 332),
        ("findings", {"code": "listener-in-range", "severity": "warning"}, 1),
    ],
)
def test_metrics_are_the_figures(name: str, labels: dict[str, str], value: float) -> None:
    """Each by the labels of its path; times in seconds."""
    metrics = metrics_of(growing(HURTS, 100, 20))
    assert metrics[f"connbench_inspect_{name}", frozenset(labels.items())] == pytest.approx(value)


def test_number_of_series_is_bounded_by_the_paths_shown() -> None:
    """The totals count all paths; a device makes a series of its own."""
    many = [connections(2, ends=(SOURCE, TARGET, port)) for port in range(1, 51)]
    bounded = metrics_of(inspected(*many, most_rows=3))
    assert len([name for name, _ in bounded if name == "connbench_inspect_used_ratio"]) == 3
    assert bounded["connbench_inspect_paths", frozenset({("namespace", "")})] == 50
    assert (
        bounded["connbench_inspect_sockets", frozenset({("namespace", ""), ("protocol", "tcp"), ("state", "ESTAB")})]
        == 100
    )
    two = Sockets.concatenate([connections(2), connections(2)])
    two.interface[:2] = 7
    assert len([name for name, _ in metrics_of(inspected(two)) if name == "connbench_inspect_used_ratio"]) == 2
