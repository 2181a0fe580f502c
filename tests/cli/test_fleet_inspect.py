"""`connbench fleet inspect`: one table of the paths of all hosts, and hosts that do not answer, or answer nonsense."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from connbench.errors import ExitCode
from fleet_hosts import Hosts, fleet_of
from json_units import without_unit
from run_connbench import COMMAND, connbench, wait_until

PORTS, CONNECTIONS = range(40_000, 40_100), 90

HOLD = """
import pathlib, socket, sys, time
held = [socket.create_connection((sys.argv[1], 8080)) for _ in range(int(sys.argv[2]))]
pathlib.Path(sys.argv[3]).touch()
time.sleep(1000)
"""


@contextmanager
def filled(hosts: Hosts, client: str) -> Iterator[None]:
    """A client most of whose ports are in use towards the server."""
    held = hosts.folder / "held"
    ports = f"net.ipv4.ip_local_port_range={PORTS[0]} {PORTS[-1]}"
    assert hosts.run("sysctl", "-q", "-w", ports, on=client).returncode == 0
    script = ("python3", "-c", HOLD, hosts.target, str(CONNECTIONS), str(held))
    with hosts.serving(), hosts.started(*script, on=client):
        wait_until(held.exists, "the connections are open")
        yield


def test_fullest_path_of_all_hosts_comes_first(tmp_path: Path) -> None:
    """Its host is named in each format, and in what a true condition says; a host that is not there is named, too."""
    everywhere = ("fleet", "inspect", "-w", "c[1-3],c9", "--via", "netns")
    with fleet_of(tmp_path, clients=3) as hosts:
        with filled(hosts, "c2"):
            plain = hosts.connbench(*everywhere)
            assert plain.returncode == ExitCode.FAULT
            assert "c9: no network namespace" in plain.stderr
            [row] = [line.split() for line in plain.stdout.splitlines() if line.startswith("c2 ")]
            assert row[:6] == ["c2", "10.77.0.12", "->", f"{hosts.target}:8080", str(CONNECTIONS), "90.0%"]
            assert "on 1 of 3 hosts: c2." in plain.stdout

            gate = ("--allow-missing", "1", "--fail-if", "used > 80%")
            judged = hosts.connbench(*everywhere, *gate, "--format", "json")
            assert judged.returncode == ExitCode.THRESHOLD
            assert "threshold failed: c2: 10.77.0.12 -> " in judged.stderr
            assert without_unit(json.loads(judged.stdout)) == set()
            found = {one["host"]: one for one in json.loads(judged.stdout)["hosts"]}
            assert list(found) == ["c1", "c2", "c3", "c9"]
            assert found["c9"]["inspection"] is None
            assert [bool(found[host]["inspection"]["conditions"][0]["outcome"]) for host in ("c1", "c2", "c3")] == [
                False, True, False
            ]  # fmt: skip
            assert found["c2"]["inspection"]["rows"][0]["used"] == CONNECTIONS

            [line] = csv.DictReader(io.StringIO(hosts.connbench(*everywhere, "--format", "csv").stdout))
            assert (line["host"], line["used"]) == ("c2", str(CONNECTIONS))
            metrics = hosts.connbench(*everywhere, "--format", "prometheus").stdout
            samples = {
                (sample.name, sample.labels["host"]): sample.value
                for family in text_string_to_metric_families(metrics)
                for sample in family.samples
            }
            assert samples["connbench_inspect_used_ratio", "c2"] == CONNECTIONS / len(PORTS)
            assert [samples["connbench_inspect_up", host] for host in found] == [1, 1, 1, 0]
            openmetrics = hosts.connbench(*everywhere, "--format", "openmetrics").stdout
            parsed = parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]  # it has no types
            assert [one.name for one in parsed] == [one.name for one in text_string_to_metric_families(metrics)]
            markdown = hosts.connbench(*everywhere, "--format", "markdown", "--", "--process").stdout
            assert f"| 10.77.0.12 -&gt; {hosts.target}:8080 |" in markdown
        hosts.until_nothing_is_left()


ANSWERS = """#!/bin/sh
case $(ip netns identify $$) in
c1) echo '{"schema": 1, "verdict": [], "sockets": -1, "paths": 0, "rows": []}' ;;
c2) exec yes ;;
c3) printf '{"schema": 1, "verdict": ["\\\\u001b[2J full"], "sockets": 0, "paths": 0, "rows": [{"namespace": ""'
    printf ', "protocol": "tcp", "source": "\\\\u001b[2J", "target": "::error::", "target_port": 1, "interface": 0'
    printf ', "used": 9, "usable": 9, "free": 0, "even": 9, "odd": 0, "established": 9, "time_wait": 0, "outside": 0'
    printf ', "used_share": 1, "blocked": 0, "others": {}, "time_wait_left": [], "closing_per_s": null'
    printf ', "expiring_per_s": null, "opened_per_s": null, "gone_per_s": null, "growth_per_s": null'
    printf ', "exhausted_in_s": null, "programs": null, "forecasts": [], "needs_attention": true}]}' ;;
c4) exec sleep 1000 ;;
c5) printf 'connbench: \\033[2J broken\\n  -> mend it\\n' >&2; exit 4 ;;
*) exec /nonexistent ;;
esac
"""


def test_no_host_is_believed(tmp_path: Path) -> None:
    """Nonsense, no end, control characters, silence, a failure and no connbench: each host is named, with its fault."""
    fake = tmp_path / "python"
    fake.write_text(ANSWERS, encoding="utf-8")
    fake.chmod(0o755)
    with fleet_of(tmp_path, clients=6) as hosts:
        there = ("-w", "c[1-6]", "--via", "netns", "--python", str(fake), "--timeout", "5")
        finished = hosts.connbench("fleet", "inspect", *there)
        assert finished.returncode == ExitCode.FAULT
        assert "\x1b" not in finished.stdout + finished.stderr
        for said in (
            "c1 sent what is no document",
            "c2 sent more than",
            "c4 has not answered in 5 s",
            "c5: ",
            "broken",
            "-> mend it",
            "c6 has no connbench",
            "pip install connbench",
        ):
            assert said in finished.stderr, said
        assert "on 1 of 1 host: c3." in finished.stdout
        hosts.until_nothing_is_left()


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_ctrl_c_waits_for_no_host(command: str, tmp_path: Path) -> None:
    """A host that does not answer is not waited for, and what was started there is gone."""
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/begun\nexec sleep 1000\n", encoding="utf-8")
    fake.chmod(0o755)
    with fleet_of(tmp_path, clients=1) as hosts:
        there = ("-w", "c1", "--via", "netns", "--python", str(fake), "--timeout", "500")
        with hosts.started(COMMAND, "fleet", command, *there) as controller:
            wait_until((tmp_path / "begun").exists, "the host has begun")
            controller.press_ctrl_c()
            finished = controller.ended()
            assert finished.returncode == ExitCode.INTERRUPTED
            assert finished.stderr == "connbench: stopped by SIGINT\n"
        hosts.until_nothing_is_left()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-w", "web[1-"), "no host set"),
        (("-w", "web[1-999999999]"), "too many hosts"),
        (("-w", "-oProxyCommand=reboot"), "no name of a host"),
        (("-w", "a", "--", "--format", "json"), "write it before the --"),
        (("-w", "a", "--", "--watch=1"), "leave out --watch"),
        (("-w", "a", "--fail-if", "usd > 1"), "did you mean used?"),
        ((), "--hosts is missing for fleet inspect\n  -> give -w SET"),
    ],
)
def test_wrong_usage_reaches_no_host(arguments: tuple[str, ...], said: str) -> None:
    """What can be seen here is said here."""
    finished = connbench("fleet", "inspect", *arguments)
    assert finished.returncode == ExitCode.USAGE
    assert said in finished.stderr
