"""`connbench run` as its users type it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connbench.errors import ExitCode
from connbench.planner.planner import why_no_c_loop
from connbench.results.csv_file import HEADER
from connbench.results.plain_document import SCHEMA
from run_connbench import command_line, connbench, in_process, needs_port_range, read_terminal

SMALL = ("run", "-n", "64", "--port-range", "40000-40063")

SIX_LINES = re.compile(
    r"""connection attempts: 64 errored: \d+ total: \d+
total time: \d+\.\d{1,3}s
latency min: \d+\.\d{1,3}ms max: \d+\.\d{1,3}ms avg: \d+\.\d{1,3}ms
even ports: \d+ latency min: \d+\.\d{1,3}ms max: \d+\.\d{1,3}ms avg: \d+\.\d{1,3}ms
odd ports: \d+ latency min: \d+\.\d{1,3}ms max: \d+\.\d{1,3}ms avg: \d+\.\d{1,3}ms
errored ports: \d+ latency min: (inf|\d+\.\d{1,3})ms max: (0|\d+\.\d{1,3})ms avg: \d+\.\d{1,3}ms
"""
)

TOLD_LINES = re.compile(SIX_LINES.pattern.replace("errored ports:", "(?:errored ports:").rstrip("\n") + "\n)?")
"""Those of the default text, where a group without an attempt has none."""


def document(*arguments: str, inside: tuple[str, ...] = (), code: int = ExitCode.OK) -> dict[str, Any]:
    """The JSON that a run prints."""
    finished = connbench(*arguments, "--format", "json", inside=inside)
    assert finished.returncode == code, finished.stderr
    loaded: dict[str, Any] = json.loads(finished.stdout)
    return loaded


def test_the_default_strategies_in_their_order() -> None:
    """plain, bind, random, window; each with header, the six lines and tables, then a closing table."""
    finished = connbench(*SMALL, "--window", "16")
    assert finished.returncode == ExitCode.OK
    assert finished.stderr == ""
    headers = [line for line in finished.stdout.splitlines() if ": Linux " in line]
    assert [header.partition(":")[0] for header in headers] == ["plain", "bind", "random", "window 16"]
    assert all(os.uname().release in header and "seed" in header for header in headers)
    assert "127.9.9.1 -> 127.9.9.2:39999" in headers[1]
    assert len(TOLD_LINES.findall(finished.stdout)) == 4
    assert "infms" not in finished.stdout
    assert re.search(r"^plain .* 1\.00 x ", finished.stdout, re.MULTILINE)
    assert re.search(r"^harness floor: \d+\.\d µs$", finished.stdout, re.MULTILINE)


def test_the_talk_format_is_the_six_lines_alone() -> None:
    """`--format talk` prints nothing else."""
    finished = connbench(*SMALL, "--strategy", "plain", "--format", "talk")
    assert SIX_LINES.fullmatch(finished.stdout)
    assert "errored ports: 0 latency min: infms max: 0ms avg: 0.0ms\n" in finished.stdout
    assert finished.stdout.startswith("connection attempts: 64 errored: 0 total: 64\n")


def test_fewer_ports_than_connections_is_an_experiment() -> None:
    """The rest fail with EADDRNOTAVAIL, and that is no error of the run."""
    finished = connbench("run", "-n", "12", "--port-range", "40000-40007", "--strategy", "plain")
    assert finished.returncode == ExitCode.OK
    assert "connection attempts: 12 errored: 4 total: 8" in finished.stdout
    assert "errors: EADDRNOTAVAIL 4" in finished.stdout


def test_json_holds_everything() -> None:
    """Schema, plan, environment, summary, samples as columns, counters, findings."""
    found = document(*SMALL, "--strategy", "window", "--window", "16", "--seed", "9", "--rounds", "2")
    assert found["schema"] == SCHEMA
    assert found["plan"]["seed"] == 9
    assert found["partial"] is False
    assert {"kernel", "cpu_model", "cpu_count", "affinity", "clock_source", "governor", "load_1m"} <= set(
        found["environment"]
    )
    assert {"memory_total", "nofile_soft", "nofile_hard", "python", "connbench"} <= set(found["environment"])
    (strategy,) = found["strategies"]
    assert strategy["strategy"].items() >= {"name": "window", "window": 16, "placement": "inside", "retries": 0}.items()
    assert [r["number"] for r in strategy["rounds"]] == [1, 2]
    for measured in strategy["rounds"]:
        assert measured["settings"]["net.ipv4.ip_local_port_range"] == "40000 40063"
        assert measured["counters"]["TcpExt.ListenOverflows"] == 0
        assert {len(column) for column in measured["samples"].values()} == {64}
    assert strategy["summary"]["all"]["latency_ns"]["count"] == 128


@pytest.mark.parametrize(("asked", "said"), [("python", "loop Python"), ("c", "loop C"), ("C", "loop C")])
def test_the_loop_is_that_of_the_option(asked: str, said: str) -> None:
    """The header and the JSON name the loop that was asked for, where it is built."""
    if said == "loop C" and why_no_c_loop():
        finished = connbench(*SMALL, "--loop", asked)
        assert finished.returncode == ExitCode.ENVIRONMENT
        assert finished.stderr.startswith(f"connbench: --loop c: {why_no_c_loop()}\n  -> install a C compiler")
        return
    header = connbench(*SMALL, "--strategy", "plain", "--loop", asked).stdout.partition("connection attempts")[0]
    assert f", {said}, seed " in " ".join(header.split())
    assert document(*SMALL, "--strategy", "plain", "--loop", asked)["plan"]["loop"] == asked.lower()


def test_csv_has_a_row_an_attempt() -> None:
    """A header, then strategy, round, and the columns by their names."""
    finished = connbench(*SMALL, "--strategy", "plain", "--strategy", "bind", "--format", "csv", "--rounds", "2")
    rows = list(csv.DictReader(io.StringIO(finished.stdout)))
    assert list(rows[0]) == [*HEADER]
    assert len(rows) == 2 * 2 * 64
    assert {(row["strategy"], row["round"]) for row in rows} == {(s, r) for s in ("plain", "bind") for r in "12"}
    assert {int(row["port"]) for row in rows} == set(range(40000, 40064))


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_the_output_file_is_what_is_printed(ending: str, tmp_path: Path) -> None:
    """-o writes the format its ending names, with the usual permissions and nothing beside it."""
    path = tmp_path / f"result.{ending}"
    finished = connbench(*SMALL, "--strategy", "plain", "--format", ending, "-o", str(path))
    assert finished.returncode == ExitCode.OK
    assert path.read_text(encoding="utf-8") == finished.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_same_seed_draws_the_same_ports() -> None:
    """The seed printed by one run repeats its draws in another."""
    first = document(*SMALL, "--strategy", "random")
    again = document(*SMALL, "--strategy", "random", "--seed", str(first["plan"]["seed"]))
    assert _ports(first) == _ports(again)


def _ports(found: dict[str, Any]) -> list[int]:
    ports: list[int] = found["strategies"][0]["rounds"][0]["samples"]["port"]
    return ports


@pytest.mark.parametrize("listener", ["backlog", "accept"])
def test_a_chain_of_workers_keeps_all_connections_open(listener: str) -> None:
    """More connections than RLIMIT_NOFILE allows one process are open at once at the end."""
    found = document(
        *("run", "-n", "200", "--port-range", "40000-40199", "--strategy", "plain", "--listener", listener),
        inside=("--nofile", "64"),
    )
    (measured,) = found["strategies"][0]["rounds"]
    assert len(measured["workers"]) >= 4
    assert sum(worker["opened"] for worker in measured["workers"]) == 200
    assert measured["established"] == 200
    assert sorted(measured["samples"]["port"]) == list(range(40000, 40200))
    assert found["environment"]["nofile_hard"] == 64


def test_a_limit_that_holds_nothing() -> None:
    """With hardly a descriptor the run says so instead of hanging."""
    finished = connbench("run", "-n", "20", "--strategy", "plain", inside=("--nofile", "14"))
    assert finished.returncode in {ExitCode.FAULT, ExitCode.ENVIRONMENT}
    assert "RLIMIT_NOFILE" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_falling_back_to_the_host_says_why_and_what_it_costs() -> None:
    """Where no namespace is allowed: one warning, the host's range, an accepting listener if somaxconn is small."""
    finished = connbench(
        *("run", "--strategy", "plain"),
        inside=(
            *("--deny", "unshare", "--sysctl", "net.core.somaxconn=63"),
            *("--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
        ),
    )
    assert finished.returncode == ExitCode.OK
    assert finished.stderr.count("warning") == 1
    assert "Operation not permitted" in finished.stderr
    assert "somaxconn" in finished.stderr
    assert "range 40000-40063" in finished.stdout
    assert "host namespace, accept listener" in finished.stdout
    assert "connection attempts: 64 errored: 0 total: 64" in finished.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting /proc/sys read-only needs root")
def test_a_container_with_read_only_sysctls_falls_back() -> None:
    """A namespace whose port range cannot be set is none to measure in."""
    finished = connbench("run", "-n", "8", "--strategy", "bind", inside=("--read-only", "/proc/sys"))
    assert finished.returncode == ExitCode.OK
    assert (
        "network namespace: net.ipv4.ip_local_port_range cannot be set there: Read-only file system" in finished.stderr
    )
    assert "host namespace" in finished.stdout


def test_a_listener_that_runs_already() -> None:
    """--target measures who listens there, as a CI job's smoke test does."""
    finished = connbench(
        *("run", "-n", "20", "--target", "localhost:5000", "--strategy", "window", "--strategy", "range"),
        inside=(
            "--listen",
            "127.0.0.1:5000/64",
        ),
    )
    assert finished.returncode == ExitCode.OK
    assert finished.stderr.count("warning") == 1
    assert "-> 127.0.0.1:5000, localhost -> 127.0.0.1, host namespace, external listener" in finished.stdout
    assert finished.stdout.count("connection attempts: 20 errored: 0 total: 20") == 2


def against_a_short_queue(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A plain run against a listener that has room for two and accepts none."""
    return connbench(
        *("run", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "plain", *arguments),
        inside=("--listen", "127.0.0.1:5000/1"),
    )


def test_an_overflowing_listener_makes_the_measurement_invalid() -> None:
    """Dropped SYNs are retransmitted after a second: exit code 3, and the findings say what to do."""
    finished = against_a_short_queue("-n", "4", "--timeout", "1.3")
    assert finished.returncode == ExitCode.UNSOUND
    assert "invalid: plain: the listener's queue overflowed (ListenOverflows" in finished.stdout
    assert "invalid: plain: SYNs were sent again (TCPSynRetrans" in finished.stdout
    assert "connect() had no answer to the SYN within --timeout 1.3 s (EINPROGRESS)" in finished.stdout
    assert "errors: EINPROGRESS" in finished.stdout


@pytest.mark.parametrize(("option", "limit"), [("--timeout", "0.1"), ("--give-up-after", "100ms")])
def test_a_silent_target_ends_the_run(option: str, limit: str) -> None:
    """Five time-outs in a row: exit code 6, and what was measured is printed as partial."""
    finished = against_a_short_queue("-n", "400", option, limit)
    assert finished.returncode == ExitCode.FAULT
    assert "5 connect() in a row took longer than 0.1 s" in finished.stderr
    assert f"or give more {option}" in finished.stderr
    assert "partial" in finished.stdout
    assert "connection attempts: 400" not in finished.stdout


@needs_port_range
@pytest.mark.parametrize(("option", "limit"), [("--timeout", "0.05"), ("--give-up-after", "50ms")])
def test_a_tenth_of_the_syns_dropped_makes_the_measurement_invalid(option: str, limit: str) -> None:
    """No counter of this namespace tells of them: a filter drops them, and the limit is over before any is sent again.

    Each window has one port, so each port is taken once; a tenth of 64 are those that 10 divides.
    """
    finished = connbench(
        *("run", "--isolate", "never", "--target", "127.0.0.1:5000", option, limit, "-n", "64", "--format", "json"),
        *("--strategy", "partition", "--window", "1"),
        inside=("--deaf", "127.0.0.1:5000/10", "--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
    )
    assert finished.returncode == ExitCode.UNSOUND, finished.stderr
    told = json.loads(finished.stdout)
    [measured] = told["strategies"]
    assert measured["rounds"][0]["counters"]["TcpExt.TCPSynRetrans"] == 0
    failed = measured["rounds"][0]["samples"]["errno"]
    assert [number for number in range(64) if failed[number] == errno.EINPROGRESS] == list(range(0, 64, 10))
    [found] = [finding for finding in told["findings"] if finding["code"] == "timed-out"]
    assert found["severity"] == "invalid"
    assert found["message"].startswith(f"7 connect() had no answer to the SYN within {option} ")
    assert "a firewall" in found["advice"]


def test_a_target_that_stops_listening_makes_the_measurement_invalid() -> None:
    """Refused attempts say nothing of the port search, and are not passed off as fast ones."""
    finished = connbench(
        *("run", "-n", "40", "--isolate", "never", "--target", "127.0.0.1:5000", "--strategy", "bind"),
        inside=("--listen-once", "127.0.0.1:5000/10"),
    )
    assert finished.returncode == ExitCode.UNSOUND
    assert "invalid: bind: attempts failed for a reason other than ports: ECONNREFUSED" in finished.stdout


def test_an_own_listener_at_an_address_of_ones_choice() -> None:
    """--target with --listener puts connbench's own listener there, in its namespace."""
    found = document(*SMALL, "--strategy", "plain", "--target", "127.1.2.3:7000", "--listener", "accept")
    assert found["plan"]["targets"] == [{"host": "127.1.2.3", "port": 7000}]
    assert found["plan"]["namespace"].startswith("own")
    assert found["strategies"][0]["summary"]["connected"] == 64


def test_the_progress_bar_is_for_terminals() -> None:
    """It names strategy, attempts and mean on stderr, and never gets into stdout."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command_line("run", "--strategy", "random", "--format", "talk", "--port-range", "20000-39999"),
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(follower)
    drawn = b"".join(read_terminal(leader))
    stdout = process.communicate()[0]
    assert process.returncode == ExitCode.OK
    assert b"random" in drawn
    assert b"of 20,000 attempts" in drawn
    assert b"mean connect() so far: " in drawn or b"mean connect() of the last 1,000: " in drawn
    assert stdout.startswith(b"connection attempts: 20000 errored: 0 total: 20000")
    assert stdout.count(b"\n") == 6


def test_a_stop_is_answered_at_once() -> None:
    """Ctrl-C on a terminal is told what goes on meanwhile: closing what is open may take seconds."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command_line("run", "--strategy", "plain", "--format", "talk"),
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(follower)
    drawn, is_sent = b"", False
    for piece in read_terminal(leader):
        drawn += piece
        if not is_sent and b"of 56,512 attempts" in drawn:
            process.send_signal(signal.SIGINT)
            is_sent = True
    process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED
    assert drawn.index(b"stopping: connbench closes every connection") < drawn.index(b"stopped by SIGINT")


LISTENERS = ("--listen", "127.0.0.1:40003/8", "--listen", "127.0.0.1:40001/8", "--listen", "127.0.0.1:50100/8")


@pytest.mark.parametrize(
    ("reserved", "named", "advice"),
    [
        ("", "python on 40001, python on 40003", "40001,40003"),
        ("8080,40000-40002", "python on 40003", "8080,40000-40003"),
        ("40001-40003", None, None),
    ],
)
def test_doctor_names_listeners_whose_ports_connect_may_take(
    reserved: str, named: str | None, advice: str | None
) -> None:
    """Those in the host's range that are not reserved, with the setting that reserves them beside what is reserved."""
    settings = {"ip_local_port_range": "40000 40199", "ip_local_reserved_ports": reserved}
    options = [word for name, value in settings.items() for word in ("--sysctl", f"net.ipv4.{name}={value}")]
    out = connbench("doctor", inside=(*options, *LISTENERS)).stdout
    if named is None:
        assert re.search(r"^ok +listeners: no unreserved port of 40000-40199 has a TCP listener$", out, re.MULTILINE)
        return
    line = next(line for line in out.splitlines() if re.match("note +listeners: ", line))
    names = re.sub(r"\b(?:python[\d.]*|connbench) on", "python on", line)
    assert re.match(f"note +listeners: {named}: ", names)
    assert f"sysctl -w net.ipv4.ip_local_reserved_ports={advice}\n" in out


HOST_RANGE = ("--sysctl", "net.ipv4.ip_local_port_range=40000 40199")
HOST_RESERVED = ("--sysctl", "net.ipv4.ip_local_reserved_ports=40000-40049")


def test_reserved_ports_are_not_counted() -> None:
    """In the host's namespace 50 of 200 are reserved: connect() has the other 150, bind() to a port has all."""
    finished = connbench(
        *("run", "-q", "--isolate", "never", "--listener", "accept", "--strategy", "plain", "--strategy", "random"),
        inside=(*HOST_RANGE, *HOST_RESERVED),
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "range 40000-40199 (the host's; 50 of its ports reserved)" in finished.stdout
    assert "connection attempts: 150 errored: 0 total: 150\n" in finished.stdout
    assert "connection attempts: 200 errored: 0 total: 200\n" in finished.stdout
    assert "note: 50 of the 200 ports of 40000-40199 are reserved" in finished.stderr


MOST_RESERVED = (
    *("--sysctl", "net.ipv4.ip_local_port_range=40000 40063"),
    *("--sysctl", "net.ipv4.ip_local_reserved_ports=40000-40029,40032-40061"),
)
"""Four ports of 64 are left: two in the middle, two at the end."""


@needs_port_range
def test_partition_has_no_attempt_for_a_reserved_port() -> None:
    """The search passes over reserved ports, and windows of 16 that have no other are left out: four are opened."""
    told = document("run", "--isolate", "never", "--strategy", "partition", "--window", "16", inside=MOST_RESERVED)
    [measured] = told["strategies"]
    ports = measured["rounds"][0]["samples"]["port"]
    assert (set(ports[:2]), set(ports[2:])) == ({40030, 40031}, {40062, 40063})
    assert measured["summary"]["errors"] == {}


@needs_port_range
def test_a_strategy_without_a_connection_is_no_sound_measurement() -> None:
    """Windows of reserved ports alone give nothing: exit code 3, and the finding says so once for both strategies."""
    finished = connbench(
        *("run", "--isolate", "never", "--strategy", "window", "--window", "2", "-n", "3", "--seed", "1"),
        inside=MOST_RESERVED,
    )
    assert "connection attempts: 3 errored: 3 total: 0" in finished.stdout
    assert finished.returncode == ExitCode.UNSOUND, finished.stderr
    assert "invalid: window 2: none of 3 attempts made a connection (EADDRNOTAVAIL 3)" in finished.stdout
    assert "of which 60 are reserved: choose another --port-range" in finished.stdout
    assert "92.1% of the windows of 2 ports have reserved ports only" in finished.stdout


def test_fill_is_a_share_of_what_is_not_reserved() -> None:
    """80 % of 150 ports are 120 connections; where all are reserved the run is refused."""
    asked = ("run", "-q", "--isolate", "never", "--listener", "accept", "--strategy", "bind", "--fill", "80%")
    finished = connbench(*asked, inside=(*HOST_RANGE, *HOST_RESERVED))
    assert "connection attempts: 120 errored: 0 total: 120\n" in finished.stdout
    none_left = ("--sysctl", "net.ipv4.ip_local_reserved_ports=40000-40199")
    refused = connbench(*asked, inside=(*HOST_RANGE, *none_left))
    assert refused.returncode == ExitCode.ENVIRONMENT
    assert "bind: every port of 40000-40199 is reserved" in refused.stderr
    random = connbench(
        *("run", "-q", "--isolate", "never", "--listener", "accept", "--strategy", "random", "-n", "5"),
        inside=(*HOST_RANGE, *none_left),
    )
    assert "  -> random binds to reserved ports too, and counts them\n" in random.stderr


def test_range_of_the_host_is_taken_by_name() -> None:
    """--port-range host, in a namespace of its own, which reserves none of its ports; predict knows the range too."""
    inside = (*HOST_RANGE, *HOST_RESERVED)
    out = connbench("run", "-q", "--strategy", "bind", "--port-range", "host", inside=inside).stdout
    assert "range 40000-40199 (the host's), " in out
    assert "connection attempts: 200 errored: 0 total: 200\n" in out
    predicted = connbench("predict", "--strategy", "bind", "--port-range", "host", inside=inside).stdout
    assert "range 40000-40199" in predicted
    default = connbench("run", "-q", "--strategy", "range", "-n", "5", inside=inside).stdout
    assert "range 9024-65535 (the host's is 40000-40199), " in default


def test_small_number_of_connections_is_said_to_hide_the_knee() -> None:
    """Beforehand, in the report, and by a gate, which fails; what the note says to do shows the knee."""
    asked = ("run", "-q", "--strategy", "plain", "--fail-if", "knee < 40%")
    finished = connbench(*asked, "-n", "1000")
    note = "plain: 1,000 connections use 1.8% of the 56,512 ports; connect() turns slow once half of them are in use"
    assert f"note: {note}" in finished.stderr
    assert f"note: {note}" in finished.stdout
    assert "knee: cannot be seen, only 1.8% of the range in use" in finished.stdout
    assert finished.returncode == ExitCode.THRESHOLD
    assert "knee < 40% cannot be judged: only 1,000 of 56,512 ports were in use" in finished.stderr
    [said] = re.findall(r"give (-n \d+ --port-range [\d-]+)", finished.stderr)
    followed = connbench(*asked, *said.split())
    assert "cannot be" not in followed.stdout + followed.stderr
    assert "connection attempts: 1000 errored: 0 total: 1000\n" in followed.stdout


def test_a_range_of_one_port_is_enough() -> None:
    """run, sweep, profile and predict take it; a run of more connections says that the others failed."""
    one = ("--strategy", "plain,random", "--port-range", "44052-44052")
    for words in (("run", "-q"), ("sweep", "--rounds", "1", "-q"), ("profile", "--at", "100%", "-q"), ("predict",)):
        finished = in_process(*words, *one)
        assert finished.returncode == ExitCode.OK, finished.stderr
    failing = in_process("run", *one, "-n", "3", "-q", "--plot")
    assert failing.returncode == ExitCode.OK, failing.stderr
    assert failing.stdout.count("connection attempts: 3 errored: 2") == 2
    assert "1 connection of 1 port cannot show" in failing.stdout
