"""Run a command in a network namespace of the test's own, with the faults a test wants to cause.

usage: faulty_host.py [option ...] -- COMMAND ...

Its own namespace stands in for a host whose settings a test may change and whose ports are all free. Options:

--join PID              the namespace of that process, which another faulty_host.py prepared, instead of a new one
--sysctl NAME=VALUE     set there
--address ADDR          give `lo` a further address
--listen ADDR:PORT/LEN  a socket listens there, and nobody accepts, for as long as the command runs
--deaf ADDR:PORT/N      a socket listens there, and the kernel drops what comes from each port that N divides
--listen-once ADDR:PORT/N   somebody accepts N connections there, holds them, and stops listening
--tmpfs DIR:OPTIONS     mount a tmpfs over DIR, seen by the command alone
--expose DIR            let other users reach DIR, whatever folders above it deny, for the command alone
--read-only DIR         make DIR read-only for the command alone
--all-read-only         make every folder read-only for the command alone, those for temporary files too
--writable DIR          all but this one
--proc OPTIONS          mount proc(5) anew with these options, for the command alone
--mask PATH             put /dev/null over a file, an empty folder over a folder, as container runtimes do, for the
                        command alone
--rlimit NAME=N         a resource limit, soft and hard, as in AS=300000000
--cgroup DIR            be in that control group
--nofile N              RLIMIT_NOFILE, soft and hard
--fsize N               RLIMIT_FSIZE: no file grows beyond N bytes, as on a full disk
--most KIND=N            user.max_KIND is N (user_namespaces, net_namespaces), in a user namespace of the stand-in's own
--drop CAPABILITY       take a capability from the command and all it starts, as in net_admin
--deny NAME[=ERRNO]     have the kernel (seccomp) refuse a call, or not know an option: see DENIALS; with ERRNO as in
                        EPERM any of SYSTEM_CALLS, too
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import platform
import resource
import shutil
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from connbench.linux import process, sysctl
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.namespace import enter_new_namespace
from connbench.model import Namespace

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SYSTEM_CALLS = {
    "x86_64": {
        "accept4": 288, "bind": 49, "bpf": 321, "clone": 56, "clone3": 435, "connect": 42, "epoll_create1": 291,
        "epoll_ctl": 233, "eventfd2": 290, "fchmod": 91, "fchown": 93, "fork": 57, "fsync": 74, "ftruncate": 77,
        "getrandom": 318, "getsockname": 51, "getsockopt": 55, "ioctl": 16, "kill": 62, "linkat": 265, "listen": 50,
        "memfd_create": 319, "mount": 165, "openat": 257, "pipe2": 293, "poll": 7, "ppoll": 271, "prctl": 157,
        "prlimit64": 302, "recvmsg": 47, "renameat2": 316, "sched_getaffinity": 204, "sched_setaffinity": 203,
        "sendmsg": 46, "setns": 308, "setsockopt": 54, "shutdown": 48, "socket": 41, "socketpair": 53, "sysinfo": 99,
        "uname": 63, "unshare": 272, "vfork": 58, "wait4": 61, "waitid": 247,
    },
    "aarch64": {
        "accept4": 242, "bind": 200, "bpf": 280, "clone": 220, "clone3": 435, "connect": 203, "epoll_create1": 20,
        "epoll_ctl": 21, "eventfd2": 19, "fchmod": 52, "fchown": 55, "fsync": 82, "ftruncate": 46, "getrandom": 278,
        "getsockname": 204, "getsockopt": 209, "ioctl": 29, "kill": 129, "linkat": 37, "listen": 201,
        "memfd_create": 279, "mount": 40, "openat": 56, "pipe2": 59, "ppoll": 73, "prctl": 167, "prlimit64": 261,
        "recvmsg": 212, "renameat2": 276, "sched_getaffinity": 123, "sched_setaffinity": 122, "sendmsg": 211,
        "setns": 268, "setsockopt": 208, "shutdown": 210, "socket": 198, "socketpair": 199, "sysinfo": 179,
        "uname": 160, "unshare": 97, "wait4": 260, "waitid": 95,
    },
}  # fmt: skip
"""Their numbers (asm/unistd.h); aarch64 has no fork(), no vfork() and no poll()."""
NUMBER_AT, FIRST_AT, LEVEL_AT, OPTION_AT, LAST_AT = 0, 16, 24, 32, 48  # in struct seccomp_data: nr, args[0] to [4]
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, |JSET|K, BPF_RET|K
LOAD_HALF, MODULO, SO_ATTACH_FILTER = 0x28, 0x94, 26  # BPF_LD|H|ABS, BPF_ALU|MOD|K
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000

CLONE_NEWNS = 0x00020000
PR_CAPBSET_DROP = 24
CAPABILITIES = {"net_admin": 12, "net_raw": 13, "sys_admin": 21, "bpf": 39}
"""Numbers of linux/capability.h."""

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Denial:
    """Which calls fail, and with which errno.

    Attributes:
        calls: Their names.
        error: The errno.
        equal: Arguments that must have a value, all of them, for the call to fail: offset and value.
        flags: An argument of which one of these bits must be set: offset and bits.
    """

    calls: tuple[str, ...]
    error: int
    equal: tuple[tuple[int, int], ...] = ()
    flags: tuple[int, int] | None = None

    def program(self, numbers: dict[str, int]) -> list[Instruction]:
        """A filter of classic BPF: each test that fails jumps to the last instruction, which allows the call."""
        tests = [(offset, JUMP_IF_EQUAL, value) for offset, value in self.equal]
        if self.flags:
            tests.append((self.flags[0], JUMP_IF_SET, self.flags[1]))
        found = [numbers[name] for name in self.calls if name in numbers]
        rest: list[Instruction] = []
        for place, (offset, jump, value) in enumerate(tests):
            rest += [(LOAD, 0, 0, offset), (jump, 0, 2 * (len(tests) - place) - 1, value)]
        rest += [(RETURN, 0, 0, FAIL_WITH | self.error), (RETURN, 0, 0, ALLOW)]
        # Each call's number jumps to the tests; the last one that does not match jumps to the end.
        last = len(found) - 1
        jumps = [
            (JUMP_IF_EQUAL, last - place, 0 if place < last else len(rest) - 1, number)
            for place, number in enumerate(found)
        ]
        return [(LOAD, 0, 0, NUMBER_AT), *jumps, *rest]


DENIALS = {
    "unshare": Denial(("unshare",), errno.EPERM),
    "port-range": Denial(("setsockopt",), errno.ENOPROTOOPT, ((LEVEL_AT, socket.SOL_IP), (OPTION_AT, 51))),
    "ipv6": Denial(("socket",), errno.EAFNOSUPPORT, ((FIRST_AT, socket.AF_INET6),)),
    "affinity": Denial(("sched_setaffinity",), errno.EPERM),
    "epoll": Denial(("epoll_create1",), errno.ENOMEM),
    "fork": Denial(("clone", "fork", "vfork", "clone3"), errno.EAGAIN),
    "netlink": Denial(("socket",), errno.EPERM, ((FIRST_AT, socket.AF_NETLINK),)),
    "no-port": Denial(("setsockopt",), errno.ENOPROTOOPT, ((LEVEL_AT, socket.SOL_IP), (OPTION_AT, 24))),
    "tmpfile": Denial(("openat",), errno.EOPNOTSUPP, flags=(OPTION_AT, os.O_TMPFILE & ~os.O_DIRECTORY)),
    "link": Denial(("linkat",), errno.EPERM),
    "renameat2": Denial(("renameat2",), errno.EINVAL, flags=(LAST_AT, 0xFFFF)),
}
"""As in kernels before 6.3 (`port-range`), before 4.2 (`no-port`: IP_BIND_ADDRESS_NO_PORT) or with ipv6.disable=1
(`ipv6`), where a limit of processes is reached (`fork`) or memory is short (`epoll`), and on FAT and NFS (`tmpfile`,
`link`, `renameat2`)."""


def denial(argument: str) -> Denial:
    """One of DENIALS, or NAME=ERRNO."""
    name, _, error = argument.partition("=")
    return replace(DENIALS.get(name) or Denial((name,), 0), error=getattr(errno, error)) if error else DENIALS[name]


def drop_each(divisor: int) -> list[Instruction]:
    """A socket's filter: of TCP it sees the header, which begins with the source port, and drops by returning 0."""
    return [
        (LOAD_HALF, 0, 0, 0),
        (MODULO, 0, 0, divisor),
        (JUMP_IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, 0xFFFFFFFF),
    ]


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program_of(instructions: list[Instruction]) -> Program:
    """The instructions as the kernel takes them."""
    return Program(len(instructions), b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions))


def install(instructions: list[Instruction]) -> None:
    """Put a seccomp filter on this process and all it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = program_of(instructions)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def mount(*arguments: str) -> None:
    """Mount by calling the program."""
    subprocess.run([shutil.which("mount") or "/bin/mount", *arguments], check=True)


def mount_tmpfs(argument: str) -> None:
    """Mount a tmpfs."""
    folder, _, options = argument.partition(":")
    mount("-t", "tmpfs", "-o", options, "tmpfs", folder)


def make_all_read_only(but: list[str]) -> None:
    """Make every folder read-only but some, as in a container without a writable layer."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for place in dict.fromkeys(p for p in places if not p.startswith(("/proc", "/sys"))):
        mount("-o", "remount,bind,ro", place)
    for folder in but:
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,rw", folder)


def expose(folders: list[Path]) -> None:
    """Cover the topmost closed folder above each by an open one that holds only the path to it."""
    opened = {folder: os.open(folder, os.O_PATH) for folder in folders}
    closed = {next((p for p in [*reversed(f.parents), f] if not p.stat().st_mode & 0o001), None) for f in folders}
    for cover in closed - {None}:
        mount_tmpfs(f"{cover}:mode=755")
    # Outermost first: a folder that were only made as the way to another would pass for one that is there.
    for folder, descriptor in sorted(opened.items(), key=lambda item: len(item[0].parts)):
        if not folder.exists():
            folder.mkdir(parents=True)
            mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{descriptor}", str(folder))
        os.close(descriptor)


def enter_host(pid: int | None, addresses: tuple[str, ...]) -> None:
    """Enter a namespace of one's own, or those that the faulty_host.py of this process made."""
    if pid is None:
        enter_new_namespace(Namespace.NETWORK if os.geteuid() == 0 else Namespace.USER)
        bring_up_loopback(addresses)
        return
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    for kind in ("net",) if os.geteuid() == 0 else ("user", "net"):
        descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        if libc.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), f"setns {kind}")
        os.close(descriptor)


def limit_namespaces(limits: list[str]) -> None:
    """Enter a user and a network namespace, and limit how many may be made from there, below the machine's own limits.

    The limit does not count those two.
    """
    enter_new_namespace(Namespace.USER)
    bring_up_loopback()
    for limit in limits:
        kind, _, most = limit.partition("=")
        own = {"user_namespaces": 0, "net_namespaces": 1}[kind]
        sysctl.write(f"user.max_{kind}", str(own + int(most)))


def drop(name: str) -> None:
    """Take a capability out of the bounding set: a program executed afterwards lacks it (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_CAPBSET_DROP, CAPABILITIES[name], 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def listen(argument: str) -> int:
    """Listen, and let the command inherit the socket."""
    address, _, backlog = argument.partition("/")
    host, _, port = address.rpartition(":")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host.strip("[]"), int(port)))
    sock.listen(int(backlog))
    sock.set_inheritable(True)
    return sock.detach()


def listen_deaf(argument: str) -> None:
    """Listen, for as long as the command runs, and drop each N-th port's packets."""
    address, _, divisor = argument.partition("/")
    deaf = socket.socket(fileno=listen(f"{address}/4096"))
    deaf.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program_of(drop_each(int(divisor)))))
    deaf.detach()


def listen_once(argument: str) -> None:
    """Accept N connections in a child that lives as long as this process."""
    address, _, number = argument.partition("/")
    listening = socket.socket(fileno=listen(f"{address}/{number}"))
    parent = os.getpid()
    if os.fork() == 0:
        process.die_with_parent(parent)
        held = [listening.accept() for _ in range(int(number))]
        listening.close()
        while held:
            signal.pause()
    listening.close()


def change_folders(asked: argparse.Namespace) -> None:
    """Apply the options about folders, for the command alone."""
    if not (asked.tmpfs or asked.expose or asked.read_only or asked.all_read_only):
        return
    process.unshare(CLONE_NEWNS)
    mount("--make-rprivate", "/")
    if asked.all_read_only:
        make_all_read_only(asked.writable)
    for argument in asked.tmpfs:
        mount_tmpfs(argument)
    for folder in asked.read_only:
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,ro", folder)
    expose([Path(folder).resolve() for folder in asked.expose])


def confine(asked: argparse.Namespace) -> None:
    """Hide parts of /proc and /sys, and set the limits: last, because the preparation needs both."""
    for folder in asked.cgroup:
        Path(folder, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    if asked.mask or asked.proc:
        process.unshare(CLONE_NEWNS)
        mount("--make-rprivate", "/")
    own = f"/proc/{os.getpid()}"  # `self` would be that of the program that mounts
    for path in asked.mask:
        masked = path.replace("/proc/self", own)
        if Path(masked).is_dir():
            mount("-t", "tmpfs", "-o", "ro", "tmpfs", masked)
        else:
            mount("--bind", "/dev/null", masked)
    for kinds in asked.proc:
        mount("-t", "proc", "-o", kinds, "proc", "/proc")
    for limit in asked.rlimit:
        name, _, value = limit.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(value), int(value)))


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser()
    for option in (
        "--sysctl",
        "--address",
        "--listen",
        "--deaf",
        "--listen-once",
        "--tmpfs",
        "--expose",
        "--read-only",
        "--writable",
        "--most",
        "--drop",
        "--deny",
        "--proc",
        "--mask",
        "--rlimit",
        "--cgroup",
    ):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("--all-read-only", action="store_true")
    parser.add_argument("--nofile", type=int)
    parser.add_argument("--fsize", type=int)
    parser.add_argument("--join", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def prepare(asked: argparse.Namespace) -> None:
    """Make the stand-in host; rights are taken away from the command later."""
    if asked.most:
        limit_namespaces(asked.most)
    else:
        enter_host(asked.join, tuple(asked.address))
    for setting in asked.sysctl:
        name, _, value = setting.partition("=")
        sysctl.write(name, value)
    for argument in asked.listen:
        listen(argument)
    for argument in asked.deaf:
        listen_deaf(argument)
    for argument in asked.listen_once:
        listen_once(argument)
    change_folders(asked)


def main() -> None:
    """Prepare the host, and execute the command."""
    asked = options()
    prepare(asked)
    for kind, limit in ((resource.RLIMIT_NOFILE, asked.nofile), (resource.RLIMIT_FSIZE, asked.fsize)):
        if limit:
            resource.setrlimit(kind, (limit, limit))
    confine(asked)
    for name in asked.drop:
        drop(name)
    for name in asked.deny:
        install(denial(name).program(SYSTEM_CALLS[platform.machine()]))
    command = asked.command[1:]
    os.execvp(command[0], command)  # noqa: S606  # becoming the command is the point


if __name__ == "__main__":
    main()
