"""`connbench reproduce` as its users type it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.reproduce import report as reproduction
from connbench.results.input_file import read
from json_units import without_unit
from run_connbench import connbench, in_process

ROWS = [
    "plain",
    "bind",
    "random",
    "window 36",
    "window 72",
    "window 362",
    "window 725",
    "partition 72",
    "partition 362",
]


SHARED = ["bind, 1 source", "bind, 2 sources", "bind, 3 sources"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What `reproduce --quick` printed, and the file it wrote."""
    path = tmp_path_factory.mktemp("quick") / "talk.json.gz"
    page = path.with_name("talk.html")
    finished = connbench("reproduce", "--quick", "--seed", "3", "-o", str(path), "--html", str(page))
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert re.fullmatch(rf"wrote {page}, \d\.\d MB\n", finished.stderr)
    return finished.stdout, path


def rows_of(printed: str) -> list[str]:
    """The lines of the table, below its heading."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("errors  total time"))
    return lines[start + 1 : lines.index("", start)]


def test_verdict_stands_first(quick: tuple[str, Path]) -> None:
    """The first lines say how many claims hold, and what plain, a window and the range take."""
    first, plain, others, *_ = quick[0].splitlines()
    assert re.match(
        r"verdict: (All 37|\d+ of 37) claims of the talk 'connect\(\) - why you so slow\?' hold on Linux ", first
    )
    assert re.match(r"plain takes .* for 4,096 connections, and an odd port costs .* x an even one \(the talk: ", plain)
    assert re.match(r"window 36 takes .*% of its connections fail; range takes .*, and no connection fails\.$", others)


def test_report_of_the_file_is_what_was_printed(quick: tuple[str, Path], tmp_path: Path) -> None:
    """The file records that it is a reproduction: its report has verdict, table and claims, and so has a page of it."""
    told = in_process("report", str(quick[1]))
    assert told.returncode == ExitCode.OK, told.stderr
    assert told.stdout == quick[0]
    page = tmp_path / "again.html"
    assert in_process("report", str(quick[1]), "--html", str(page)).returncode == ExitCode.OK
    assert "<h2>What the talk claims, and whether it holds here</h2>" in page.read_text(encoding="utf-8")
    assert in_process("report", str(quick[1]), "--blocks").stdout.startswith("plain: Linux ")


@pytest.mark.slow
def test_json_is_printed() -> None:
    """Programs get it of the command itself, too."""
    finished = connbench("reproduce", "--quick", "--format", "json", "-q")
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert len(json.loads(finished.stdout)["claims"]) == 37


def test_json_has_claims_and_rows(quick: tuple[str, Path]) -> None:
    """Programs get every claim with its limits, and the table, without the attempts."""
    printed = reproduction.json(read(quick[1]))
    document = json.loads(printed)
    assert without_unit(document) == set()
    assert [row["row"] for row in document["rows"]] == [*ROWS, "range", *SHARED]
    assert len(document["claims"]) == 37
    assert document["claims_that_hold"] == sum(claim["holds"] for claim in document["claims"])
    [knee] = [c for c in document["claims"] if (c["row"], c["figure"]) == ("plain", "connections_before_knee")]
    assert knee["expected"] == {"at_least": 2048, "at_most": 2048, "more_than": None}
    [errors] = [c for c in document["claims"] if (c["row"], c["figure"]) == ("plain", "errors")]
    assert (errors["holds"], errors["measured"]) == (True, 0)
    assert len(printed) < 100_000


def test_every_row_stands_above_the_talks(quick: tuple[str, Path]) -> None:
    """Ten rows in the talk's order with a verdict each, nine with the talk's figures below."""
    rows = rows_of(quick[0])
    own = [row for row in rows if not row.startswith("  the talk")]
    assert [row.split("  ")[0] for row in own] == [*ROWS, "range", *SHARED]
    assert all(row.endswith(("  holds", "  differs")) for row in own)
    assert len(rows) - len(own) == 9
    assert re.search(r"^  the talk, 500 +868 +1\.88 s +69\.6 x +30\.0 µs +31\.0 µs$", "\n".join(rows), re.MULTILINE)


def test_claims_that_need_no_clock_hold(quick: tuple[str, Path]) -> None:
    """Errors, tries and ports are the kernel's doing, however busy the machine is; the others are `make accuracy`'s."""
    held = [line.removeprefix("holds    ") for line in quick[0].splitlines() if line.startswith("holds ")]
    for name in ("plain", "bind", "random", "partition 72", "range"):
        assert f"{name}: no connection failed" in held
    for sources, failed in ((1, 978), (2, 0), (3, 0)):
        ports = f"{4096 * sources:,}"
        text = f"{failed} of 5,074 connections failed; there are ports for {ports}"
        assert any(line.endswith(text) and line.startswith(f"bind, {sources} source") for line in held)
    assert "partition 72: every port was taken: 36 even, 36 odd" in held
    assert sum("the model of the search expects" in line for line in held) == 4


def test_file_holds_everything(quick: tuple[str, Path]) -> None:
    """What -o saved is a result like any other: `report` prints all of its strategies."""
    finished = in_process("report", str(quick[1]), "--format", "json")
    assert finished.returncode == ExitCode.OK, finished.stderr
    strategies = {s["label"]: len(s["rounds"][0]["samples"]["port"]) for s in json.loads(finished.stdout)["strategies"]}
    assert list(strategies.values()) == [4096] * 7 + [72, 362] + [4096] + [5074] * 3
    assert "partition 72, n=72" in strategies


def test_page_has_the_talk_and_what_it_claims(quick: tuple[str, Path]) -> None:
    """The page begins with the table and the claims, and names the command."""
    page = quick[1].with_name("talk.html").read_text(encoding="utf-8")
    assert page.index("<h2>the talk &#39;connect() - why you so slow?&#39;, again</h2>") < page.index(
        "<h2>Comparison</h2>"
    )
    assert "<h2>What the talk claims, and whether it holds here</h2>" in page
    assert "connbench reproduce --quick --seed 3 -o " in page


def test_kernel_without_the_option_leaves_out_what_needs_it() -> None:
    """Rows that need IP_LOCAL_PORT_RANGE are named and left out, the others measured."""
    finished = connbench("reproduce", "--quick", inside=("--deny", "port-range"))
    assert finished.returncode == ExitCode.OK, finished.stderr
    own = [row.split("  ")[0] for row in rows_of(finished.stdout) if not row.startswith("  the talk")]
    assert own == ["plain", "bind", "random", *SHARED]
    assert len(re.findall(r"window \d+: left out: needs IP_LOCAL_PORT_RANGE", finished.stderr)) == 4
    assert finished.stderr.count("left out: ") == 7
    left_out = ", ".join([*ROWS[3:], "range"])
    assert f" This kernel does not support {left_out}." in finished.stdout.splitlines()[0]


def test_no_namespace_no_reproduction() -> None:
    """The host's own range is not the talk's: without a namespace it says so, in two lines."""
    finished = connbench("reproduce", "--quick", inside=("--deny", "unshare"))
    assert finished.returncode == ExitCode.ENVIRONMENT
    assert finished.stdout == ""
    assert finished.stderr.startswith("connbench: cannot create a network namespace: ")
    assert len(finished.stderr.splitlines()) == 2


def test_existing_file_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """Nothing is measured for a file that cannot be written."""
    path = tmp_path / "there.json"
    path.write_text("mine")
    finished = connbench("reproduce", "--quick", "-o", str(path))
    assert finished.returncode == ExitCode.OUTPUT
    assert finished.stdout == ""
    assert path.read_text() == "mine"
