"""The CSV of connbench: a row an attempt, and back again."""

from __future__ import annotations

import csv
import errno
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.errors import InputError, Interrupted, RunFault
from connbench.model import LOAD_FIELDS, Load, Placement, Reuse, StrategySpec
from connbench.results import csv_file
from connbench.results.csv_file import csv_rows, is_own_header, read_csv
from connbench.results.result import PARTIAL, Origin, Result, Round
from connbench.samples import COLUMNS
from factories import BIND, LONG, PLAIN, WINDOW, result_of, round_of, samples_of, unhurried
from generated_results import EXAMPLES, facts, samples, specs

CLEAN = samples_of([10_000, 20_000, 30_000])
MIXED = samples_of([10_000, 0, 400_000], errno=[0, errno.EADDRINUSE, errno.EADDRNOTAVAIL], tries=[1, 3, 1])
FIRST = (
    "strategy,window,placement,retries,connections,fill,sources,protocol,concurrency,give_up_ms,churn,close,churn_rate,phase,"
    "round,fault,started_ns,prepare_ns,connect_ns,acquire_ns,port,errno,tries,source,target,client"
)
"""The columns that every file has, after renames."""
OF_PORTS = ["reuse", "first_port", "stride", "residue"]
LATER = [field.name for field in LOAD_FIELDS if field.is_optional]
"""The fields of the load that files of earlier versions lack; most tests set none of them, and none of OF_PORTS."""
HEADER = ",".join(
    [
        FIRST.replace(",retries,", ",".join(["", "retries", *OF_PORTS, ""])).replace(
            ",phase,", ",".join(["", *LATER, "phase", ""])
        ),
        *(c.name for c in COLUMNS if c.is_optional),
    ]
)
PREFIX = 16 + len(OF_PORTS) + len(LATER)
USUAL = [*[""] * len(OF_PORTS), "", "", "", "tcp", "1", "", "", "", "", *[""] * len(LATER), "fill"]
"""The columns of no such parameters and of the default load, filled once."""


def rows_of(result: Result) -> list[list[str]]:
    """The rows of the CSV, header first."""
    return list(csv.reader(io.StringIO(csv_rows(result))))


def test_csv_has_a_row_an_attempt_with_the_samples_values() -> None:
    """Under a header of names, every attempt of every round and strategy is a row, in order."""
    rounds = {BIND: [round_of(CLEAN, 1), round_of(MIXED, 2)], WINDOW: [round_of(MIXED, 1), round_of(CLEAN, 2)]}
    header, *rows = rows_of(result_of(rounds))
    assert ",".join(header) == HEADER
    begin = {BIND: ["bind", "", "", "", *USUAL], WINDOW: ["window", "500", "inside", "0", *USUAL]}
    expected = [
        [
            *begin[spec],
            str(measured.number),
            "",
            *(str(int(getattr(measured.samples, name)[i])) for name in HEADER.split(",")[PREFIX:]),
        ]
        for spec, some in rounds.items()
        for measured in some
        for i in range(len(measured.samples))
    ]
    assert len(rows) == 12
    assert rows == expected


def test_csv_has_all_columns_of_the_samples() -> None:
    """The CSV leaves out no column, and has them in the order of the schema."""
    assert HEADER.split(",")[PREFIX:] == [column.name for column in COLUMNS]


def test_csv_of_no_attempt_is_its_header() -> None:
    """A round without an attempt adds no row."""
    assert csv_rows(result_of({BIND: [round_of(samples_of([]))]})) == HEADER + "\n"


def test_times_with_fractions_are_rounded() -> None:
    """Times of a talk CSV become whole ns, as the header says."""
    result = Result(None, {}, origin=Origin.TALK_CSV)
    result.add(PLAIN, Round(1, samples_of([1, 2])))
    result.rounds[PLAIN][0].samples.__dict__["connect_ns"] = CLEAN.connect_ns[:2] + 0.6
    assert [row[PREFIX + 2] for row in rows_of(result)[1:]] == ["10001", "20001"]


NOTHING = [""] * len(COLUMNS)


def test_cut_short_round_says_why_in_each_of_its_rows() -> None:
    """The missing rows cannot show it; every row has the same columns."""
    result = result_of({PLAIN: [round_of(CLEAN)], LONG: [round_of(MIXED, fault=Interrupted(2))]})
    header, *rows = rows_of(result)
    assert {len(row) for row in rows} == {len(header)}
    assert [row[header.index("fault")] for row in rows] == [""] * 3 + ["stopped by SIGINT"] * 3


def test_round_without_an_attempt_has_a_row_for_its_fault() -> None:
    """What ended a round before its first attempt is in a row without samples, and without a quoted field."""
    fault = RunFault('engine died: "9", at once')
    result = result_of({BIND: [round_of(CLEAN)], WINDOW: [round_of(samples_of([]), fault=fault)]})
    told = "engine died: '9'; at once"
    assert csv_rows(result).splitlines()[-1] == ",".join(("window,500,inside,0", *USUAL, "1", told, *NOTHING))
    read = read_csv(csv_rows(result), "x.csv")
    [back] = read.rounds[WINDOW]
    assert back.fault
    assert (len(back.samples), back.fault.message) == (0, told)


def test_rounds_that_were_not_run_add_a_row() -> None:
    """A run that ended between two rounds is partial too."""
    result = result_of({PLAIN: [round_of(CLEAN), round_of(CLEAN, 2)]})
    result.rounds[PLAIN].pop()
    assert rows_of(result)[-1] == [*[""] * (PREFIX - 1), "not all rounds were run", *NOTHING]
    read = read_csv(csv_rows(result), "x.csv")
    assert read.is_partial
    assert [(f.code, f.message) for f in read.known] == [(PARTIAL, "partial: not all rounds were run")]


def test_csv_of_before_is_read() -> None:
    """A file whose last line is a comment, as earlier versions wrote, has the fault that the comment names."""
    text = (Path(__file__).parents[1] / "files" / "partial-0.1.csv").read_text(encoding="utf-8")
    result = read_csv(text, "before.csv")
    assert [[len(r.samples) for r in some] for some in result.rounds.values()] == [[3, 3], [3, 1]]
    assert [[r.fault and r.fault.message for r in some] for some in result.rounds.values()] == [
        [None, None],
        [None, "stopped by SIGINT"],
    ]
    *rows, _ = text.splitlines(keepends=True)
    of_run = read_csv("".join(rows) + "# partial,,,,,,,,,,,,,,,,not all rounds were run\n", "before.csv")
    assert [finding.code for finding in of_run.known] == [PARTIAL]


def test_csv_with_old_names_is_read() -> None:
    """A file with a column `lane` has the same content, and is written again with today's names."""
    text = (Path(__file__).parents[1] / "files" / "schema-4.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(io.StringIO(text))
    result = read_csv(text, "schema-4.csv")
    samples = [measured.samples for strategy in result.strategies for measured in strategy.rounds]
    assert [str(one) for some in samples for one in some.client] == [row[header.index("lane")] for row in rows]
    assert [str(one) for some in samples for one in some.tries] == [row[header.index("tries")] for row in rows]
    later = "".join(f",{column.lowest}" for column in COLUMNS if column.is_optional)
    lines = [re.sub(r",(?=fill|churn)", "," * (1 + len(LATER)), line, count=1) for line in text.splitlines()[1:]]
    lines = [re.sub(r"^((?:[^,]*,){4})", r"\1" + "," * len(OF_PORTS), line) for line in lines]
    assert csv_rows(result) == "\n".join([HEADER, *(line + later for line in lines), ""])


def test_optional_column_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file from before a column existed each row has its lowest value, each strategy the default of its load."""
    header, *rows = rows_of(result_of({BIND: [round_of(MIXED)]}))
    kept = [place for place, name in enumerate(header) if name not in {"client", "concurrency", "churn_rate"}]
    without = "".join(",".join(row[place] for place in kept) + "\n" for row in (header, *rows))
    assert not is_own_header(without.partition("\n")[0])
    monkeypatch.setattr(csv_file, "_LATER", {*csv_file._LATER, "client", "concurrency", "churn_rate"})  # noqa: SLF001  # no column is optional yet
    [(spec, [read])] = read_csv(without, "x.csv").rounds.items()
    assert (spec, facts(read.samples)) == (BIND, facts(MIXED))
    assert not is_own_header(HEADER.replace("tries,", ""))
    assert not is_own_header(HEADER.replace("port,errno", "errno,port"))


@st.composite
def attempts(draw: st.DrawFn) -> Result:
    """What a CSV can hold: attempts of some strategies in rounds, of which some were cut short."""
    result = Result(None, {}, origin=Origin.CSV, name="x.csv")
    for spec in draw(st.lists(specs().map(lambda spec: spec.phases[0]), max_size=3, unique=True)):
        for number in range(1, draw(st.integers(1, 3)) + 1):
            fault = draw(
                st.none()
                | st.builds(RunFault, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9))
            )
            measured = draw(samples(spec))
            if len(measured) or fault:
                result.add(spec, Round(number, measured, fault=fault))
    return result


@settings(unhurried, max_examples=EXAMPLES)
@given(attempts())
def test_attempts_come_back_as_they_were(result: Result) -> None:
    """Strategies with their parameters, rounds, columns and faults survive a CSV; a fault loses commas and quotes."""
    read = read_csv(csv_rows(result), "x.csv")
    assert (read.plan, read.origin, read.name, read.is_partial) == (None, Origin.CSV, "x.csv", result.is_partial)
    assert set(read.rounds) == set(result.rounds)
    for spec, rounds in result.rounds.items():
        for back, measured in zip(sorted(read.rounds[spec], key=lambda r: r.number), rounds, strict=True):
            assert (back.number, facts(back.samples)) == (measured.number, facts(measured.samples))
            expected = measured.fault and measured.fault.message.translate(str.maketrans('\r\n,"', "  ;'"))
            assert (back.fault and back.fault.message) == expected


@pytest.mark.parametrize("name", ["a,b", 'a"b', '"', "a b", "ä\u2028ö", "\x1c", "", "'"])
def test_any_name_comes_back(name: str) -> None:
    """The name of a talk CSV stands for its strategy, and may hold characters that have a meaning in CSV."""
    spec = StrategySpec(name, 7, Placement.CLIPPED, 3, Load(3))
    read = read_csv(csv_rows(result_of({spec: [round_of(CLEAN)]})), "x.csv")
    assert list(read.rounds) == [spec]


def test_line_ends_of_windows_are_read() -> None:
    """A file that a spreadsheet saved has other line ends, and the same content."""
    text = csv_rows(result_of({BIND: [round_of(MIXED, fault=Interrupted(2))]}))
    [[read]] = read_csv(text.replace("\n", "\r\n"), "x.csv").rounds.values()
    assert facts(read.samples) == facts(MIXED)
    assert read.fault
    assert read.fault.message == "stopped by SIGINT"


BEGIN = "bind,,,,,,,tcp,1,,,,,fill,"
ROW = BEGIN + "1,,0,1000,10000,11000,9024,0,1,0,0,0\n"
REFUSALS = {
    "header in the middle": (ROW + HEADER + "\n" + ROW, "line 3"),
    "row of another file": (ROW + "9024,0.001\n", "line 3"),
    "empty line": (ROW + "\n" + ROW, "line 3"),
    "field too few": (ROW.replace("9024,", "", 1), "line 2"),
    "field too many": (ROW.replace("9024,", "9024,7,", 1), "line 2"),
    "word for a number": (ROW + ROW.replace("10000", "fast"), "line 3: '" + BEGIN + "1,,0,1000,fast,11000"),
    "word in a later round": (ROW + ROW + ROW.replace("bind", "plain").replace("10000", "fast"), "line 4"),
    "fraction": (ROW + ROW.replace("10000", "1.5"), "line 3"),
    "no number": (ROW + ROW.replace("10000", ""), "line 3"),
    "number too long": (ROW.replace("10000", "9" * 30), "line 2"),
    "negative time": (ROW + ROW.replace("10000", "-5"), "line 3: connect_ns is -5"),
    "endless time": (ROW.replace("10000", str(10**17)), f"line 2: connect_ns is {10**17}"),
    "port beyond the last": (ROW + ROW + ROW.replace("9024", "70000"), "line 4: port is 70000"),
    "no try": (ROW.replace(",0,1,0,", ",0,0,0,"), "line 2: tries is 0"),
    "round that is none": (ROW.replace("fill,1,", "fill,one,"), "'one'"),
    "round 0": (ROW.replace("fill,1,", "fill,0,"), "round is 0"),
    "round in two parts": (ROW + ROW.replace("bind", "plain") + ROW, "line 4: round 1 of bind occurs twice"),
    "unknown placement": (ROW.replace("bind,,,", "window,5,outside,"), "outside"),
    "window of 0": (ROW.replace("bind,,", "window,0,"), "window is 0"),
    "no client": (ROW.replace("tcp,1,", "tcp,0,"), "concurrency is 0"),
    "unknown protocol": (ROW.replace("tcp", "sctp"), "sctp"),
    "churn of none": (ROW.replace(",fill,", ",churn,"), "has a phase churn and no churn"),
    "comment": (ROW + "# partial,,,,,,,,,,,,,,,,x\n", "line 3"),
    "fault in the middle of a round": (
        ROW + ROW.replace("fill,1,,", "fill,1,died,"),
        "line 3: round 1 of bind occurs twice",
    ),
    "no samples and no fault": (BEGIN + "1," + "," * 10 + "\n", "line 2"),
    "fault of no round": (BEGIN + ",died" + "," * 10 + "\n", "line 2"),
    "no line break at the end": (ROW + ROW.rstrip("\n"), "cut off in line 3"),
    "port of a failed attempt": (ROW + ROW.replace("9024,0,", "9025,99,"), "line 3: port is 9025 and errno is 99"),
    "neither port nor error": (ROW + ROW.replace("9024,", "0,"), "line 3: the attempt has neither"),
    "client beyond the load": (ROW.replace(",0,0,0\n", ",0,0,1\n"), "line 2: client is 1, and there are 1"),
    "source beyond the load": (
        ROW.replace("bind,,,,,,,", "bind,,,,,,2,").replace(",0,0,0\n", ",2,0,0\n"),
        "line 2: source",
    ),
    "more attempts than planned": (ROW.replace("bind,,,,,", "bind,,,,1,") * 2, "has 2 attempts, and 1 were planned"),
    "window of a strategy without": (ROW.replace("bind,,", "bind,5,"), "bind has a window"),
    "number of 4,300 digits": (ROW.replace("fill,1,", f"fill,{'9' * 4300},"), "is not a whole number"),
    "number of another script": (ROW.replace("fill,1,", "fill,\u0661,"), "is not a whole number"),
    "very long field": ("x" * 200_000 + ROW, "line 2"),
}


@pytest.mark.parametrize(("rows", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_no_run_wrote_is_refused(rows: str, reason: str) -> None:
    """A row that is cut off, changed or of another form is refused with the file's name and its line."""
    with pytest.raises(InputError) as refused:
        read_csv(f"{FIRST}\n{rows}", "folder/x.csv")
    assert refused.value.message.startswith("folder/x.csv")
    assert reason in refused.value.message
    assert refused.value.hint


REFUSALS_OF_PORTS = {
    "reuse that is none": ("address", "both", "'both' is not one of address, port"),
    "residue beyond the stride": (",8,3,", ",8,8,", "residue is 8, not 0 to 7"),
    "stride alone": (",8,3,", ",8,,", "has a stride alone"),
    "residue alone": (",8,3,", ",,0,", "has a residue alone"),
    "port of another residue": (",9027,", ",9028,", "port is 9028, and the strategy takes those with port % 8 = 3"),
    "reuse of a strategy without": ("random,,,,address", "window,1,inside,0,port", "window has a reuse, port, which"),
    "stride of a strategy without": ("random,,,,address", "plain,,,,", "plain has a stride, 8, which it does not take"),
    "window beside a stride": ("random,,,,address", "window,2,inside,0,", "has a stride and windows of 2 ports"),
    "first port of no port": ("random,,,,address,,", "sequential,,,,,0,", "first_port is 0, not 1 to 65535"),
}


@pytest.mark.parametrize(("of_file", "changed", "reason"), REFUSALS_OF_PORTS.values(), ids=REFUSALS_OF_PORTS)
def test_ports_that_no_strategy_takes_are_refused(of_file: str, changed: str, reason: str) -> None:
    """Reuse, first port, stride and residue have limits, go to strategies that take them, and ports fit them."""
    spec = StrategySpec("random", reuse=Reuse.ADDRESS, stride=8, residue=3)
    text = csv_rows(result_of({spec: [round_of(samples_of([10_000], port=[9027]))]}))
    assert list(read_csv(text, "x.csv").rounds) == [spec]
    assert text.count(of_file) == 1
    with pytest.raises(InputError) as refused:
        read_csv(text.replace(of_file, changed), "x.csv")
    assert reason in refused.value.message


REFUSALS_OF_BEFORE = {
    "comment cut off": ("# partial,bind\n", "# partial,bind"),
    "comment in the middle": (
        "# partial,,,,,,,,,,,,,,,,x\n" + ROW.replace("1,,", "1,", 1),
        "line 3",
    ),
    "comment of no round": (f"# partial,{BEGIN}x,y\n", "'x'"),
}


@pytest.mark.parametrize(("rows", "reason"), REFUSALS_OF_BEFORE.values(), ids=REFUSALS_OF_BEFORE)
def test_comment_that_no_run_wrote_is_refused(rows: str, reason: str) -> None:
    """The same for the comments of older files."""
    with pytest.raises(InputError) as refused:
        read_csv(f"{FIRST.replace('fault,', '')}\n{rows}", "folder/x.csv")
    assert reason in refused.value.message


def test_header_is_known_with_its_line_end() -> None:
    """The header distinguishes connbench's own CSV from all others."""
    assert is_own_header(HEADER + "\r\n")
    assert not is_own_header(HEADER + ",more")
    assert not is_own_header("strategy,round")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "'"])
def test_no_name_is_a_formula_to_a_spreadsheet(name: str) -> None:
    """An apostrophe marks it as text; the name is the same when it is read again."""
    text = csv_rows(result_of({StrategySpec(name): [round_of(CLEAN, fault=RunFault(name))]}))
    [_, row, *_] = csv.reader(io.StringIO(text))
    assert row[0] == f"'{name}"
    assert row[HEADER.split(",").index("fault")] == f"'{name}"
    [spec] = read_csv(text, "x.csv").rounds
    assert spec.name == name


def test_number_of_clients_is_read_under_its_former_name() -> None:
    """A file whose header has `lanes` is connbench's, and has the same content."""
    spec = replace(BIND, load=Load(concurrency=3))
    written = csv_rows(result_of({spec: [round_of(samples_of([10]))]}))
    before = written.replace(",concurrency,", ",lanes,", 1)
    assert is_own_header(before.partition("\n")[0])
    assert [one.strategy for one in read_csv(before, "x.csv").strategies] == [spec]
