"""Hosts for a fleet: network namespaces on one bridge, on a machine of their own, which a test may break.

    with fleet_of(tmp_path, clients=3, ssh=True) as hosts:
        finished = hosts.connbench("fleet", "run", "-w", "c[1-3]", "--via", "netns", "--", "-n", "100")
    assert hosts.left() == []    # inside the `with`, after each command

The machine is a namespace of processes, of mounts and of the network: `hosts.connbench` runs on it, where the bridge
is. The hosts are its network namespaces with the names that `ip netns` has: `c1`, `c2` and so on, and `server`. Names
never collide with those of another test, because /run is the machine's own. So are /tmp, the home of root, and the
file of its hosts' names. Each host has one device, whose name is the host's, and one address; /etc/hosts knows it by
name. With `ssh` each client runs Debian's sshd, whose host name is the host's, and root's ~/.ssh has what ssh needs.

With `nat_ports` the server is not on the bridge: a router leads there, and gives all clients its own address and
these ports.

The first process ends when its stdin does, so with the test at the latest, and the kernel ends all others of the
machine with it: nothing is left after a failure, either.

usage: fleet_hosts.py FOLDER CLIENTS ssh|- LOW-HIGH|-
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from allowed_namespace import NAMESPACE
from connbench.linux import nftables, sysctl
from connbench.linux.interfaces import TO_SERVER
from connbench.linux.namespace import in_namespace
from connbench.model import PortRange
from faulty_host import mount
from required_programs import PATH, program, reason, require
from run_connbench import COMMAND, HANG_S, REACHABLE, children, wait_until

UNSHARED = ("--mount", "--net", "--pid", "--fork")
OWN_USER = () if os.geteuid() == 0 else ("--map-root-user",)
BRIDGE, SERVER, ROUTER = "bridge0", "server", "router"
HUB_ADDRESS, ROUTER_ADDRESS, SERVER_ADDRESS = "10.77.0.1", "10.77.0.254", "10.77.0.2"
BEHIND_ROUTER, ROUTER_BEYOND = "10.88.0.2", "10.88.0.1"
"""The server's address where a router leads to it, and the address that the router gives all clients."""
SSHD = "/usr/sbin/sshd"

SSHD_CONFIG = """
Port 22
HostKey {home}/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
PidFile none
MaxStartups 100
"""
SSH_CONFIG = """
IdentityFile {home}/.ssh/id_ed25519
UserKnownHostsFile {home}/.ssh/known_hosts
StrictHostKeyChecking yes
"""


def found(command: str) -> str:
    """Path of a command that is there."""
    return program(command) or command


def address_of(client: int) -> str:
    """The address of a client, counted from 1."""
    return f"10.77.0.{10 + client}"


@cache
def why_no_hosts() -> str:
    """Why this machine has no hosts for a fleet; empty if it has."""
    if not NAMESPACE.is_own:
        return "no network namespace allowed here"
    tried = "ip link add bridge0 type bridge && mount --make-rprivate / && mount -t tmpfs tmpfs /run"
    command = [found("unshare"), *UNSHARED, *OWN_USER, "sh", "-c", tried]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": PATH})
    return finished.stderr.strip() if finished.returncode else ""


def why_no_ssh() -> str:
    """Why the hosts of a test have no sshd; empty if they have."""
    if os.geteuid() != 0:
        return "sshd gives no session to another user than its own: run the tests as root"
    return "" if program("sshd") else reason("sshd")


needs_ssh = pytest.mark.skipif(bool(why_no_ssh()), reason=why_no_ssh() or "it is here")


@dataclass
class Controller:
    """A command that runs on the machine of the hosts.

    Attributes:
        process: What entered the machine, with the command's streams and exit code.
        pid: The command's process id.
    """

    process: subprocess.Popen[str]
    pid: int

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the command and to all that it started and that a terminal would send it to."""
        assert self.pid  # 0, of a command that has ended, would be the processes of the test
        for pid in reversed(descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == os.getpgid(self.pid):
                    os.kill(pid, signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to the command."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command alone."""
        assert self.pid  # as above
        os.kill(self.pid, number)

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; what it printed, and its exit code."""
        stdout, stderr = self.process.communicate(timeout=HANG_S)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, stdout, stderr)


@dataclass
class Hosts:
    """The hosts of a fleet.

    Attributes:
        first: The process id of the machine's first process.
        clients: The names of the clients.
        folder: A folder that the machine and the test share, in which commands run.
        target: The server's address.
    """

    first: int
    clients: tuple[str, ...]
    folder: Path
    target: str
    _there: set[str] = field(default_factory=set)
    _services: set[int] = field(default_factory=set)
    _servers: set[int] = field(default_factory=set)
    """Process ids of what belongs to the hosts: the first process and sshd; servers, which may start further ones."""

    @property
    def names(self) -> tuple[str, ...]:
        """All hosts, the server too."""
        return (*self.clients, SERVER)

    def command(self, *words: str, on: str = "", **variables: str) -> list[str]:
        """A command line that runs these words on the machine, or on one of its hosts."""
        own = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        inside = ["nsenter", "--target", str(self.first), *own, "--mount", "--net", "--pid"]
        variables = {"HOME": str(self.folder / "home"), "PATH": PATH} | variables
        given = [f"{name}={value}" for name, value in variables.items()]
        setting = ["env", f"--chdir={self.folder}", "--unset=TMPDIR", *given]
        return [*inside, *setting, *(["ip", "netns", "exec", on] if on else []), *words]

    def run(self, *words: str, on: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = self.command(*words, on=on, **variables)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=HANG_S, check=False, stdin=subprocess.DEVNULL
        )

    def connbench(self, *arguments: str, on: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run connbench to its end, on the machine or on one of its hosts."""
        return self.run(COMMAND, *arguments, on=on, **variables)

    @contextmanager
    def started(self, *words: str, on: str = "", **variables: str) -> Iterator[Controller]:
        """A command that runs meanwhile; what is left of it is killed after the body.

        It does not count as a process that a test started: `left` finds what is left of it.
        """
        process = subprocess.Popen(
            self.command(*words, on=on, **variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_unmarked(),
        )
        try:
            wait_until(lambda: children(process.pid) or process.poll() is not None, f"{words[0]} has started")
            assert process.poll() is None or process.returncode == 0, process.communicate()
            yield Controller(process, next(iter(children(process.pid)), 0))
        finally:
            for pid in [*descendants(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()

    def connbench_started(self, *arguments: str, **variables: str) -> AbstractContextManager[Controller]:
        """Connbench, while it runs on the machine."""
        return self.started(COMMAND, *arguments, **variables)

    @contextmanager
    def serving(self, port: int = 8080, *arguments: str) -> Iterator[Controller]:
        """`connbench serve` on the server, once it listens."""
        with self.started(
            COMMAND, "serve", "--bind", self.target, "--port", str(port), *arguments, on=SERVER
        ) as server:
            wait_until(lambda: is_listening(server.pid, port), f"the server listens at port {port}")
            self._services.update(descendants(server.pid))
            yield server

    def processes(self, host: str = "") -> dict[int, str]:
        """The process ids and command lines on a host, or on the machine and all hosts, but for those of servers."""
        found = {}
        machine, networks = _namespace(Path(f"/proc/{self.first}"), "pid"), self._networks
        known = {*self._services, *(pid for server in self._servers for pid in descendants(server))}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if _namespace(entry, "pid") != machine or int(entry.name) in known:
                    continue
                if host and _namespace(entry, "net") != networks[host]:
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
                found[int(entry.name)] = " ".join(os.fsdecode(word) for word in words).strip()
        return found

    def agents(self, host: str = "") -> list[int]:
        """Process ids of the agents on a host, or on all."""
        words = [(pid, line.split()) for pid, line in self.processes(host).items()]
        return [pid for pid, line in words if "agent" in line and "sh" not in line[0].rpartition("/")[2]]

    def cut(self, host: str) -> None:
        """Set the link of a host down, at the bridge."""
        assert self.run("ip", "link", "set", host, "down").returncode == 0

    def mend(self, host: str) -> None:
        """Set it up again, and wait until it forwards and nobody remembers that the host had no answer."""
        assert self.run("ip", "link", "set", host, "up").returncode == 0
        show = ("ip", "-details", "link", "show", host)
        wait_until(lambda: "state forwarding" in self.run(*show).stdout, f"the link of {host} forwards")
        for name in self.names:
            self.run("ip", "neighbour", "flush", "all", on=name)

    def left(self) -> list[str]:
        """What is on the machine and its hosts now, and was not when they were made."""
        return sorted(self._left() - self._there)

    def until_nothing_is_left(self) -> None:
        """Wait until `left` finds nothing, however long that takes; a failure tells what is left."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.left(), "nothing is left on any host")
        assert self.left() == []

    def remember(self) -> None:
        """Take what is there now for what belongs to the hosts."""
        self._services.update([self.first, *self.processes()])
        self._there = self._left()

    @property
    def _networks(self) -> dict[str, int]:
        """The network namespace of each host, by its inode."""
        named = {path.name: path.stat().st_ino for path in self._root("run/netns").iterdir()}
        return named | {"": _namespace(Path(f"/proc/{self.first}"), "net")}

    def _root(self, path: str) -> Path:
        return Path(f"/proc/{self.first}/root", path)

    def _left(self) -> set[str]:
        names = {inode: name for name, inode in self._networks.items()}
        found = {f"namespace {name}" for name in names.values() if name}
        for pid, line in self.processes().items():
            with contextlib.suppress(OSError):
                where = names.get(_namespace(Path(f"/proc/{pid}"), "net"), "elsewhere")
                found.add(f"{where or 'machine'}: process {pid}: {line}")
        found |= {f"/tmp/{path.name}" for path in self._root("tmp").iterdir()}  # noqa: S108  # the machine's own
        each = "for name in $(ls /run/netns); do echo $name; ip netns exec $name cat /proc/net/dev; done"
        host = "machine"
        for line in self.run("sh", "-c", f"cat /proc/net/dev; {each}").stdout.splitlines():
            device, colon, _ = line.partition(":")
            if colon:
                found.add(f"{host}: device {device.strip()}")
            elif "|" not in line:
                host = line
        return found


def descendants(pid: int) -> list[int]:
    """A process's id, and those of all that it started and that still have it above them."""
    return [pid, *(further for child in children(pid) for further in descendants(child))]


def is_listening(pid: int, port: int) -> bool:
    """Whether a socket listens at a port in the network namespace of a process."""
    lines = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines += Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return any(one[3] == "0A" and int(one[1].rpartition(":")[2], 16) == port for one in fields)


def _unmarked() -> dict[str, str]:
    """An environment without the mark of what a test starts, for what lives longer than one."""
    return {name: value for name, value in os.environ.items() if name not in {"CONNBENCH_TESTS", "TMPDIR"}}


def _namespace(process: Path, kind: str) -> int:
    return (process / "ns" / kind).stat().st_ino


@contextmanager
def fleet_of(folder: Path, clients: int = 3, *, ssh: bool = False, nat_ports: str = "-") -> Iterator[Hosts]:
    """Make the hosts of a fleet, and end them after the body.

    Args:
        folder: An empty folder for what they share with the test.
        clients: How many clients there are beside the server.
        ssh: Whether each of them runs sshd. The test is skipped where none can run: see `needs_ssh`.
        nat_ports: The ports of a router between the clients and the server, as LOW-HIGH; "-" for no router.
    """
    require("ip")
    if why_no_hosts():
        pytest.skip(f"no hosts for a fleet: {why_no_hosts()}")
    if ssh and why_no_ssh():
        pytest.skip(why_no_ssh())
    arguments = [str(folder), str(clients), "ssh" if ssh else "-", nat_ports]
    process = subprocess.Popen(
        [found("unshare"), *UNSHARED, *OWN_USER, sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_unmarked(),
    )
    try:
        assert process.stdout
        ready = process.stdout.readline()
        assert ready == "ready\n", process.communicate()[1]
        names = tuple(f"c{number}" for number in range(1, clients + 1))
        target = SERVER_ADDRESS if nat_ports == "-" else BEHIND_ROUTER
        hosts = Hosts(children(process.pid)[0], names, folder, target)
        hosts.remember()
        yield hosts
    finally:
        for pid in children(process.pid):  # the first one, whose end waits for that of all others
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def ip_batch(lines: list[str], name: str = "") -> None:
    """Have ip(8) do what these lines say, in a named namespace if there is a name."""
    namespace = ["-netns", name] if name else []
    command = [found("ip"), *namespace, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def cover_tmp(kept: list[Path]) -> None:
    """Put an empty folder over /tmp, in which only these folders are what they were."""
    tmp = Path("/tmp")  # noqa: S108  # the agents' folders are there
    inside = [folder for folder in kept if folder.is_relative_to(tmp)]
    opened = {folder: os.open(folder, os.O_PATH) for folder in inside}
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(tmp))
    for folder, descriptor in sorted(opened.items(), key=lambda item: len(item[0].parts)):
        if not folder.exists():
            folder.mkdir(parents=True)
            mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{descriptor}", str(folder))
        os.close(descriptor)


def set_up_files(folder: Path, addresses: dict[str, str]) -> None:
    """Give this machine a /run, a /tmp, a home of root and names of hosts of its own."""
    mount("--make-rprivate", "/")
    cover_tmp([*(path.resolve() for path in REACHABLE), folder])
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for name in ("netns", "sshd"):
        Path("/run", name).mkdir()
    home, files = folder / "home", folder / "etc"
    home.mkdir()
    files.mkdir()
    names = "".join(f"{address} {name}\n" for name, address in addresses.items())
    users = "".join(
        f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{'/' if user.pw_uid else home}:/bin/sh\n"
        for user in pwd.getpwall()
    )
    own = {"hosts": f"127.0.0.1 localhost\n{names}", "passwd": users, "shadow": "root:*:20000:0:99999:7:::\n"}
    for name, text in own.items():
        if Path("/etc", name).exists():
            (files / name).write_text(text, encoding="utf-8")
            mount("--bind", str(files / name), f"/etc/{name}")


def set_up_links(clients: dict[str, str], *, is_routed: bool) -> None:
    """Make the bridge, and a host for each name, with a veth pair to it; with a router, the server is behind that."""
    on_bridge = clients | ({ROUTER: ROUTER_ADDRESS} if is_routed else {SERVER: SERVER_ADDRESS})
    beyond = {SERVER: BEHIND_ROUTER} if is_routed else {}
    ip_batch([f"netns add {name}" for name in on_bridge | beyond])
    made = [f"link add {BRIDGE} type bridge", f"addr add {HUB_ADDRESS}/24 dev {BRIDGE}", f"link set {BRIDGE} up"]
    for name in on_bridge:
        made += [
            f"link add {name} type veth peer name {name} netns {name}",
            f"link set {name} master {BRIDGE}",
            f"link set {name} up",
        ]
    ip_batch(["link set lo up", *made])
    for name, address in on_bridge.items():
        up = ["link set lo up", f"link set {name} up", f"addr add {address}/24 dev {name}"]
        routed = [f"route add default via {ROUTER_ADDRESS}"] if is_routed and name != ROUTER else []
        ip_batch(up + routed, name)
    if is_routed:
        pair = f"link add {TO_SERVER} type veth peer name {SERVER} netns {SERVER}"
        ip_batch([pair, f"link set {TO_SERVER} up", f"addr add {ROUTER_BEYOND}/24 dev {TO_SERVER}"], ROUTER)
        ip_batch(["link set lo up", f"link set {SERVER} up", f"addr add {BEHIND_ROUTER}/24 dev {SERVER}"], SERVER)


def set_up_router(ports: PortRange) -> socket.socket:
    """Let the router masquerade; returns what has to stay open."""
    descriptor = os.open(f"/run/netns/{ROUTER}", os.O_RDONLY)
    with in_namespace(descriptor):
        rule = nftables.masquerade(4, leaves=TO_SERVER, ports=ports)
        sysctl.write("net.ipv4.ip_forward", "1")
    return rule


def start_sshd(folder: Path, names: list[str]) -> None:
    """Start sshd on these hosts, each with its own host name, and let root log in by a key of its own."""
    home = folder / "home"
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    for key in (home / "host_key", ssh / "id_ed25519"):
        subprocess.run([found("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shutil.copy(ssh / "id_ed25519.pub", ssh / "authorized_keys")
    host_key = (home / "host_key.pub").read_text(encoding="ascii")
    (ssh / "known_hosts").write_text(f"* {host_key}", encoding="ascii")
    (ssh / "config").write_text(SSH_CONFIG.format(home=home), encoding="ascii")
    configured = home / "sshd_config"
    configured.write_text(SSHD_CONFIG.format(home=home), encoding="ascii")
    started = []
    for name in names:
        serve = f"hostname {name} && exec {SSHD} -D -f {configured} -E {home}/sshd-{name}.log"
        started.append(subprocess.Popen([found("ip"), "netns", "exec", name, "unshare", "--uts", "sh", "-c", serve]))
    for process in started:
        wait_until(lambda one=process: is_listening(one.pid, 22) or one.poll() is not None, "sshd listens")  # type: ignore[misc]  # a default binds the loop's variable
        assert process.poll() is None, "sshd has ended"


def be_first(folder: Path, clients: int, how: str, nat_ports: str) -> None:
    """Be the machine's first process: set everything up, tell, and reap what ends, until stdin does."""
    names = {f"c{number}": address_of(number) for number in range(1, clients + 1)}
    is_routed = nat_ports != "-"
    server = {SERVER: BEHIND_ROUTER, ROUTER: ROUTER_ADDRESS} if is_routed else {SERVER: SERVER_ADDRESS}
    mount("-t", "proc", "proc", "/proc")
    set_up_files(folder, names | server)
    set_up_links(names, is_routed=is_routed)
    rule = set_up_router(PortRange.parse(nat_ports)) if is_routed else None
    if how == "ssh":
        start_sshd(folder, list(names))
    print("ready", flush=True)  # noqa: T201  # stdout is how it tells
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno())
    while not any(stream is sys.stdin for stream in select.select([sys.stdin, reader], [], [])[0]):
        reader.recv(4096)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    if rule:
        rule.close()


def main() -> None:
    """Be the first process of a machine that unshare(1) made."""
    folder, clients, how, nat_ports = sys.argv[1:]
    if os.getpid() != 1:
        sys.exit("not the first process: this would change the mounts and links of the machine itself")
    be_first(Path(folder), int(clients), how, nat_ports)


if __name__ == "__main__":
    main()
