"""`connbench fleet check`: a row for each host, whatever it answers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from connbench.errors import ExitCode
from connbench.fleet.checking import CheckedHost
from fleet_hosts import fleet_of
from json_units import without_unit

HELLO = """{"event": "hello", "protocol": %d, "connbench": "0.0.9", "python": "3.11", "kernel": "%s", "hostname": "",
    "pid": 9}""".replace("\n", "")

ANSWERS = f"""#!/bin/sh
case $(ip netns identify $$) in
c1) exec {sys.executable} "$@" ;;
c2) ulimit -n 30; exec {sys.executable} "$@" ;;
c3) exec sleep 1000 ;;
c4) echo '{HELLO % (99, "6.1")}'; exec cat ;;
c5) printf '{HELLO % (1, "6.1 ::error:: %b")}\\n' '\\\\u001b[2J'; printf '{{"event": "checked"}}\\n'; exec cat ;;
*) exec /nonexistent ;;
esac
"""


def test_each_host_has_a_row(tmp_path: Path) -> None:
    """One that can measure, too low limits, silence, another protocol, nonsense, no connbench, and no such host."""
    fake = tmp_path / "python"
    fake.write_text(ANSWERS, encoding="utf-8")
    fake.chmod(0o755)
    with fleet_of(tmp_path, clients=6) as hosts:
        there = ("fleet", "check", "-w", "c[1-7]", "--via", "netns", "--python", str(fake), "--timeout", "10")
        finished = hosts.connbench(*there)
        assert finished.returncode == ExitCode.ENVIRONMENT
        assert finished.stderr == ""
        assert "\x1b" not in finished.stdout
        assert "::error::" not in finished.stdout
        rows = {line.split()[0]: line for line in finished.stdout.splitlines() if re.match(r"c\d ", line)}
        assert list(rows) == [f"c{number}" for number in range(1, 8)]
        assert re.search(r" (ok|warnings|not sound) +[+-][\d.]+ [mµn]?s ±[\d.]+ [mµn]?s$", rows["c1"])
        assert all("cannot" in rows[f"c{number}"] for number in range(2, 8))
        for said in (
            "c2: ",
            "RLIMIT_NOFILE",
            "c3: it has not answered within 10 s",
            "c4: it has connbench 0.0.9, whose agent speaks protocol 99",
            "c5: its agent sent what is no message",
            "c6: it has no connbench",
            "give --push",
            "c7: there is no network namespace of this name",
            "of 7 hosts can do a full run",
            "A run is not possible on c[2-7].",
        ):
            assert said in finished.stdout, said
        hosts.until_nothing_is_left()


def test_document_has_what_a_program_asks_for(tmp_path: Path) -> None:
    """Versions, offset and error, all checks, and the exit code."""
    with fleet_of(tmp_path, clients=1) as hosts:
        finished = hosts.connbench("fleet", "check", "-w", "c1", "--via", "netns", "--format", "json")
        document = json.loads(finished.stdout)
        [host] = document["hosts"]
        assert finished.returncode == document["exit_code"] == host["exit_code"]
        assert host["fault"] is None
        assert without_unit(document) == set()
        assert host["python"] == ".".join(map(str, sys.version_info[:3]))
        assert abs(host["offset_us"]) <= host["error_us"]  # it is the clock of this machine
        assert {"cpu-load", "loop", "listeners"} <= {one["code"] for one in host["checks"]}
        hosts.until_nothing_is_left()


def test_clock_behind_a_long_path_is_known_to_half_of_a_round_trip() -> None:
    """So a round trip of twice the largest error is the longest that has no finding."""
    [found] = CheckedHost("a", None, None, None, 12_000.0, 12_500.0).findings
    assert "known to 12.5 ms only" in found.text
    assert "within 10.0 ms" in found.advice
    assert not CheckedHost("a", None, None, None, 4_900.0, 5_000.0).findings
