"""The output of `connbench serve`, from statistics made by hand; and the acceptors' counters in shared memory."""

from __future__ import annotations

import json
from dataclasses import replace

from connbench.engine.acceptors import Counter, SharedCounters
from connbench.serve import report as serve_report
from connbench.serve.statistics import ProcessStatistics, ServerInfo, Statistics

INFO = ServerInfo(
    "[::1]:9023",
    processes=4,
    processes_wanted=4,
    bounded_by="",
    files=20000,
    room=19978,
    somaxconn=4096,
    backlog=4096,
)
BUSY = ProcessStatistics(pid=4194301, accepted=19990, open=19978, closed_by_fin=10, closed_by_reset=2, is_full=True)
IDLE = ProcessStatistics(pid=4194302, accepted=1200, open=1000, closed_by_fin=200, closed_by_reset=0, is_full=False)
KILLED = replace(IDLE, end="was killed by SIGKILL")
STATISTICS = Statistics((BUSY, IDLE), 20990, 0, 4096, {"TcpExt.ListenOverflows": 0, "TcpExt.ListenDrops": 0})


def test_where_it_listens() -> None:
    """A line for scripts, and one for people; of a single process in the singular."""
    assert serve_report.info_text(INFO) == (
        "listening on [::1]:9023, backlog 4,096 (somaxconn 4,096)\n"
        "  4 processes of 20,000 files: 79,912 connections; SIGUSR1 reports, Ctrl-C ends it"
    )
    assert "1 process of" in serve_report.info_text(replace(INFO, processes=1))
    assert (
        json.loads(serve_report.info_json(INFO)).items()
        >= {"event": "listening", "room": 19978, "files": 20000}.items()
    )


def test_what_it_cannot_hold_is_said() -> None:
    """Where a connection from each port takes more processes than allowed: how many, why, and two remedies."""
    bound = "half of the 58 allowed (RLIMIT_NPROC)"
    few = replace(INFO, processes=29, processes_wanted=6554, bounded_by=bound, files=20, room=10)
    text = serve_report.info_text(few)
    assert text.splitlines()[1:] == [
        "  29 processes of 20 files: 290 connections; SIGUSR1 reports, Ctrl-C ends it",
        "  A connection from each of 65,535 ports takes 6,554 processes. It starts",
        f"  {bound}.",
        "  -> raise the hard limit of open files (ulimit -Hn), or give --processes",
    ]
    assert max(map(len, text.splitlines())) <= 80


def test_how_it_stands() -> None:
    """Totals, then each process; no line about what did not happen, and all under 80 columns."""
    assert serve_report.statistics_text(STATISTICS) == (
        "accepted: 21,190\n"
        "open: 20,978, most at once: 20,990\n"
        "closed by the peer: 210 by FIN, 2 by reset\n"
        "waiting in the queue: 0 of 4,096\n"
        "dropped by the kernel: none\n"
        "\n"
        "process  accepted    open  closed\n"
        "4194301    19,990  19,978      12  full\n"
        "4194302     1,200   1,000     200"
    )


def test_what_went_wrong_is_said() -> None:
    """A dead process's connections count as lost and not as open, those left are all full, and the queue overflowed."""
    worse = replace(
        STATISTICS, processes=(BUSY, KILLED), counters={"TcpExt.ListenOverflows": 7, "TcpExt.ListenDrops": 0}
    )
    text = serve_report.statistics_text(worse)
    assert "open: 19,978," in text
    assert "process 4194302 was killed by SIGKILL: 1,000 connections are lost\n" in text
    assert "dropped by the kernel: ListenOverflows 7\n" in text
    assert f"{serve_report.ALL_FULL}\n{serve_report.OVERFLOWED}\n" in text
    assert text.endswith("\n4194302     1,200   1,000     200  ended")
    assert max(map(len, text.splitlines())) <= 80


def test_nobody_left_is_not_full() -> None:
    """Where every process has ended none is full, and nothing is open."""
    gone = replace(STATISTICS, processes=(KILLED, KILLED))
    assert (gone.is_full, gone.totals()["open"], gone.totals()["lost"]) == (False, 0, 2000)


def test_json_has_every_figure_of_the_text() -> None:
    """One line, with totals, counters by the kernel's names and each process."""
    text = serve_report.statistics_json(replace(STATISTICS, processes=(BUSY, KILLED)))
    assert "\n" not in text
    found = json.loads(text)
    assert (found["event"], found["open"], found["lost"], found["full"]) == ("report", 19978, 1000, True)
    assert found["counters"] == STATISTICS.counters
    assert [process["end"] for process in found["processes"]] == [None, "was killed by SIGKILL"]


def test_rows_of_shared_counters_are_apart() -> None:
    """A process counts in its own row, and in the sum over all."""
    counters = SharedCounters(3)
    counters.row(1)[Counter.OPEN] = 5
    counters.row(2)[Counter.OPEN] = 2
    assert [counters.row(number)[Counter.OPEN] for number in range(3)] == [0, 5, 2]
    assert counters.open_in_all() == 7
