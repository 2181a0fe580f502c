"""The programs of a production host, run inside a stand-in for one: what `connbench inspect` looks at.

usage: production_host.py FOLDER NGINX REDIS

FOLDER is for the files of the servers, whose paths the other words are. Once every connection is as it stays, it prints
one line of JSON: the local ports that each group of its own sockets has. It holds them until its stdin ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from connbench.linux.process import die_with_parent

LOW, HIGH = 40000, 40255
"""The stand-in's port range."""
RESERVED_PORTS = range(40200, 40204)
PROXIED, HELD, FEW = 30, 20, 5
OVER_HALF = (HIGH - LOW + 1) // 2 // 2 + 6
"""Each of two targets gets more than half of the even ports, which connect() chooses first: so they share some."""

PROXY, UPSTREAM = ("127.0.0.1", 8080), ("127.0.0.2", 8081)
REDIS = ("127.0.0.3", 6379)
EARLY_SOURCE = "127.0.1.1"
EARLY = (("127.0.0.4", 8084), ("127.0.0.5", 8085))
PLAIN = (("127.0.0.6", 8086), ("127.0.0.7", 8087))
OVER_IPV6 = ("::1", 8088)
RESOLVER = ("127.0.0.9", 53)
SERVICE, RESERVED_SERVICE = ("127.0.0.8", 40100), ("127.0.0.8", 40201)
"""Listeners inside the port range: accepted connections have their ports, and are not outgoing."""
BOUND = ("127.0.0.1", 40120)

NGINX_CONFIGURATION = """
daemon off;
master_process off;
user root;  # in a user namespace there is no other to become, or to give its folders to
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {proxy};
        location / {{ proxy_pass http://{upstream}; }}
    }}
}}
"""
REDIS_CONFIGURATION = """
bind {address}
port {port}
daemonize no
save ""
dir {folder}
"""


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens; whoever connects stays in its queue."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=2 * OVER_HALF)


def connect(target: tuple[str, int], number: int, source: str | None = None) -> list[socket.socket]:
    """Connections that stay open. With a source bind() takes their ports early."""
    return [socket.create_connection(target, 30, (source, 0) if source else None) for _ in range(number)]


def connect_over_device(target: tuple[str, int], number: int) -> list[socket.socket]:
    """Connections of sockets that are bound to the device `lo`."""
    made = [socket.socket() for _ in range(number)]
    for sock in made:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.connect(target)
    return made


def connect_mapped(target: tuple[str, int], number: int) -> list[socket.socket]:
    """IPv4 connections of IPv6 sockets, as programs make them that know only IPv6."""
    made = [socket.socket(socket.AF_INET6) for _ in range(number)]
    for sock in made:
        sock.connect((f"::ffff:{target[0]}", target[1]))
    return made


def connect_udp(target: tuple[str, int], number: int) -> list[socket.socket]:
    """UDP sockets with a peer, as a resolver has them while it waits for answers."""
    made = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(number)]
    for sock in made:
        sock.connect(target)
    return made


def answer_each(listener: socket.socket) -> None:
    """Answer one request of each connection, and let the peer close first."""
    while True:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            peer.recv(1)


def serve_some(listener: socket.socket, target: tuple[str, int]) -> list[socket.socket]:
    """Clients of a service, and the service's ends: one of them closes first."""
    clients = connect(target, FEW)
    accepted = [listener.accept()[0] for _ in clients]
    accepted.pop().close()
    clients.pop().close()
    return clients + accepted


def request(number: int) -> None:
    """Requests to the proxy, each with a connection of its own."""
    for _ in range(number):
        with socket.create_connection(PROXY, 30) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 204 " in client.recv(65536)
            client.recv(1)


def start(command: list[str], address: tuple[str, int], around: ExitStack) -> None:
    """Start a server, and wait until it answers."""
    own = os.getpid()
    process = around.enter_context(
        subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: die_with_parent(own),  # noqa: PLW1509  # this process has one thread as yet
        )
    )
    around.callback(process.kill)
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(address, 30):
            return
        threading.Event().wait(0.01)
    sys.exit(f"{command[0]} ended with {process.returncode}")


def is_moving() -> bool:
    """Whether a TCP socket of this namespace is neither established, nor in TIME_WAIT, nor a listener's."""
    lines = [line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text("ascii").splitlines()[1:]]
    return any(line.split()[3] not in {"01", "06", "0A"} for line in lines)  # include/net/tcp_states.h


def has_ipv6() -> bool:
    """Whether this namespace has the address ::1."""
    with suppress(OSError), socket.create_server((OVER_IPV6[0], 0), family=socket.AF_INET6):
        return True
    return False


def main() -> None:
    """Start everything, say which ports are whose, and hold them."""
    folder, nginx, redis = sys.argv[1:]
    configured = Path(folder, "nginx.conf")
    addresses = {"proxy": "{}:{}".format(*PROXY), "upstream": "{}:{}".format(*UPSTREAM)}
    configured.write_text(NGINX_CONFIGURATION.format(folder=folder, **addresses), encoding="ascii")
    Path(folder, "redis.conf").write_text(
        REDIS_CONFIGURATION.format(address=REDIS[0], port=REDIS[1], folder=folder), encoding="ascii"
    )
    service, reserved = map(listen, (SERVICE, RESERVED_SERVICE))  # before a connection can have their ports
    bound = socket.socket()
    bound.bind(BOUND)
    with ExitStack() as around:
        start([nginx, "-c", str(configured)], PROXY, around)
        start([redis, f"{folder}/redis.conf"], REDIS, around)
        upstream = listen(UPSTREAM)
        held = [listen(target) for target in (*EARLY, *PLAIN)]
        threading.Thread(target=answer_each, args=[upstream], daemon=True).start()
        request(PROXIED)
        groups = {
            "redis": connect(REDIS, HELD),
            "early": [sock for target in EARLY for sock in connect(target, OVER_HALF, EARLY_SOURCE)],
            "plain": [sock for target in PLAIN for sock in connect(target, OVER_HALF)],
            "mapped": connect_mapped(PLAIN[0], FEW),
            "device": connect_over_device(PLAIN[1], FEW),
            "udp": connect_udp(RESOLVER, HELD),
        }
        for client in groups["redis"]:
            client.sendall(b"PING\r\n")
            assert client.recv(64) == b"+PONG\r\n"
        held += serve_some(service, SERVICE)
        if has_ipv6():
            held.append(listen(OVER_IPV6))
            groups["ipv6"] = connect(OVER_IPV6, FEW)
        ports = {name: [sock.getsockname()[1] for sock in sockets] for name, sockets in groups.items()}
        while is_moving():
            threading.Event().wait(0.01)
        print(json.dumps(ports), flush=True)  # noqa: T201  # stdout is how it tells
        sys.stdin.read()
        for sock in (*held, bound, service, reserved):
            sock.close()


if __name__ == "__main__":
    main()
