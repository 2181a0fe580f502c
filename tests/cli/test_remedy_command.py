"""The command line of advise that `inspect` ends with, on a host with such connections."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from run_connbench import COMMAND, HANG_S, INSIDE
from server_host import heard, started

LOW, HIGH, OPEN, WAITING, LISTENING = 40000, 40099, 25, 40, 40010
RESERVED = "40020-40021"

CLIENTS = f"""
import socket, sys

target = ("127.0.0.2", 8080)
listener = socket.create_server(target, backlog=100)
in_range = socket.create_server(("127.0.0.4", {LISTENING}))
pairs = [(socket.create_connection(target, 30), listener.accept()[0]) for _ in range({OPEN + WAITING})]
for ours, theirs in pairs[{OPEN}:]:
    ours.close()
    theirs.close()
print("ready", flush=True)
sys.stdin.readline()
"""
"""Opens connections to one target, and closes most of them first."""


def test_advise_has_the_measured_numbers() -> None:
    """Run where inspect ran, it ends with 0, knows the ports of each kind, and prints code."""
    settings = {"ip_local_port_range": f"{LOW} {HIGH}", "ip_local_reserved_ports": RESERVED, "tcp_tw_reuse": "0"}
    given = [word for name, value in settings.items() for word in ("--sysctl", f"net.ipv4.{name}={value}")]
    with started([*INSIDE, *given, "--", sys.executable, "-c", CLIENTS]) as process:
        assert heard(process) == "ready\n", process.communicate()[1]

        def inside(*command: str) -> str:
            joined = [*INSIDE, "--join", str(process.pid), "--", *command]
            return subprocess.run(joined, capture_output=True, text=True, check=True, timeout=HANG_S).stdout

        found = json.loads(inside(COMMAND, "inspect", "--format", "json"))
        [row] = found["rows"]
        assert (row["used"], row["time_wait"], row["free"]) == (OPEN + WAITING, WAITING, 100 - 3 - OPEN - WAITING)
        line = found["remedy"]["command"]
        assert line == (
            f"connbench advise -n {OPEN} --rate {WAITING}/min --closes-first client --target 127.0.0.2:8080"
            f" --port-range {LOW}-{HIGH} --reserved-ports {LISTENING},{RESERVED} --tcp-tw-reuse 0 --code python"
        )
        printed = inside(COMMAND, "inspect")
        assert printed.endswith(f"{line}\n")
        _, *words = shlex.split(line)
        assert "sock.setsockopt(" in inside(COMMAND, *words)
        advice = json.loads(inside(COMMAND, *words[:-2], "--format", "json"))
    assert (advice["connections"], advice["time_wait"]["ports"]) == (OPEN, WAITING)
    assert (advice["ports_in_use"], advice["ports_available"]) == (row["used"], row["usable"])


def test_of_a_file_the_kernel_is_the_one_that_was_assumed(tmp_path: Path) -> None:
    """The line has what options said of the host, or inspect assumed, and nothing of this one."""
    file = tmp_path / "ss.txt"
    ports = [*range(LOW, HIGH + 1, 2), *range(LOW + 1, LOW + 84, 2)]
    file.write_text("".join(f"ESTAB 0 0 10.0.0.5:{port} 10.1.2.3:443\n" for port in ports), encoding="utf-8")
    asked = (COMMAND, "inspect", str(file), "--port-range", f"{LOW}-{HIGH}", "--algorithm", "pre-6.8")
    *_, last = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=HANG_S).stdout.splitlines()
    assert last == (
        f"Next: connbench advise -n {len(ports)} --target 10.1.2.3:443 --port-range {LOW}-{HIGH} --kernel 6.7"
        " --tcp-tw-reuse 2 --algorithm pre-6.8 --code python"
    )
    _, _, *words = shlex.split(last)
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=True, timeout=HANG_S)
    assert f"{len(ports)} of 100 ports are in use" in done.stdout
