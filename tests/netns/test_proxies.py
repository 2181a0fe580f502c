"""The proxies' configurations in examples/: they run as they are, and inspect shows what they gain."""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from required_programs import require
from run_connbench import INSIDE, connbench, wait_until
from server_host import heard, listening, started

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVERS = ("127.0.0.2:8081", "127.0.0.3:8081")
PORTS = 800
HOST = (
    *("--sysctl", f"net.ipv4.ip_local_port_range=40000 {40000 + PORTS - 1}", "--sysctl", "net.core.somaxconn=4096"),
    *(word for server in SERVERS for word in ("--listen", f"{server}/2000")),
)
"""Servers that accept no request: each connection of the proxy stays open."""

REQUESTS = 1000
CLIENTS = f"""
import socket, sys
held = []
for number in range({REQUESTS}):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_IP, {NO_PORT.number}, 1)
    sock.bind((f"127.0.1.{{number % 5}}", 0))
    sock.connect(("127.0.0.1", 8080))
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: example\\r\\n\\r\\n")
    held.append(sock)
print("open", flush=True)
sys.stdin.readline()
"""
"""They have addresses of their own, and bind late: their ports are then none that the proxy lacks."""


def nginx(configuration: Path, folder: Path) -> list[str]:
    """In the foreground and as one process; in a user namespace it can become no other user."""
    options = "daemon off; master_process off; user root;"
    return [require("nginx"), "-p", str(folder), "-c", str(configuration), "-g", options]


def haproxy(configuration: Path, _folder: Path) -> list[str]:
    """In the foreground."""
    return [require("haproxy"), "-db", "-f", str(configuration)]


PROXIES = {
    "nginx": (nginx, EXAMPLES / "nginx" / "nginx.conf", r"(?m)^ +proxy_bind .*\n"),
    "haproxy": (haproxy, EXAMPLES / "haproxy" / "haproxy.cfg", r" source 127\.0\.2\.\d"),
}
"""How each is started, its configuration, and what of it names the source addresses."""


@contextmanager
def inspected(command: list[str], inside: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """What inspect says of a proxy with as many requests under way."""
    with listening(command, 8080, (*HOST, *inside)) as proxy:
        join = ("--join", str(proxy.pid))
        with started([*INSIDE, *join, "--", sys.executable, "-c", CLIENTS]) as clients:
            assert heard(clients) == "open\n"
            found: dict[str, Any] = {}

            def is_busy() -> bool:
                done = connbench("inspect", "--format", "json", "--top", "0", inside=join)
                found.update(json.loads(done.stdout))
                return sum(int(row["used"]) for row in of_proxy(found)) == REQUESTS

            wait_until(is_busy, "each request has a connection to a server")
            yield found


def of_proxy(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The paths from the proxy to its servers."""
    return [row for row in found["rows"] if f"{row['target']}:{row['target_port']}" in SERVERS]


@pytest.mark.parametrize("name", PROXIES)
def test_source_addresses_keep_the_proxy_below_half_of_its_ports(name: str, tmp_path: Path) -> None:
    """Before, the path to each server is past the knee. And no port is taken for both servers."""
    start, configuration, sources = PROXIES[name]
    text, found = re.subn(sources, "", configuration.read_text(encoding="utf-8"))
    assert found
    without = tmp_path / "without.conf"
    without.write_text(text, encoding="utf-8")
    with inspected(start(without, tmp_path)) as before:
        assert sorted(row["used"] for row in of_proxy(before)) == [REQUESTS // 2] * 2
        assert all(row["used"] > PORTS / 2 for row in of_proxy(before))
    with inspected(start(configuration, tmp_path)) as after:
        assert len(of_proxy(after)) == 4
        assert all(row["used"] < PORTS / 2 for row in of_proxy(after))
        assert "early-bind" not in {finding["code"] for finding in after["findings"] if "127.0.2" in finding["message"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROXIES)
def test_inspect_tells_a_proxy_that_binds_early(name: str, tmp_path: Path) -> None:
    """The kernel refuses the option, as one before 4.2 does, so that bind() takes each port for both servers."""
    start, configuration, _ = PROXIES[name]
    with inspected(start(configuration, tmp_path), ("--deny", "no-port")) as found:
        told = [finding["message"] for finding in found["findings"] if finding["code"] == "early-bind"]
        assert [text for text in told if "127.0.2.1" in text]
        assert [text for text in told if "127.0.2.2" in text]


def test_envoy_sets_both_options_before_bind() -> None:
    """Debian has no Envoy: the numbers are those of the kernel, and the value is a port range."""
    content = yaml.safe_load((EXAMPLES / "envoy" / "envoy.yaml").read_text(encoding="utf-8"))
    [cluster] = content["static_resources"]["clusters"]
    no_port, port_range = cluster["upstream_bind_config"]["socket_options"]
    assert {no_port["state"], port_range["state"]} == {"STATE_PREBIND"}
    assert (no_port["level"], no_port["name"], no_port["int_value"]) == (0, NO_PORT.number, 1)
    assert (port_range["level"], port_range["name"]) == (0, LOCAL_PORT_RANGE.number)
    assert struct.unpack("=HH", base64.b64decode(port_range["buf_value"])) == (32768, 60999)
