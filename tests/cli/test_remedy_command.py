"""The command line of advise that `inspect` ends with, on a host with such connections."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

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
