"""The target: found out and tried before anything is measured."""

from __future__ import annotations

import socket

from connbench.errors import TargetError, UsageError
from connbench.findings import Finding, Severity
from connbench.linux.address_family import family_of
from connbench.linux.sockopts import LINGER_RESET
from connbench.model import MAX_PORT, Endpoint, Link, Namespace, PortRange, ip_version, is_of_one, refuse_mapped
from connbench.planner.sources import is_address
from connbench.units import parse_number

DEFAULT_TARGET_HOST, DEFAULT_TARGET_HOST_6 = "127.9.9.2", "2001:db8::2"
"""The talk's, and of the prefix that documents use (RFC 3849), which the namespace is given."""

FAR_TARGET_HOSTS = {4: "198.19.0.1", 6: "2001:db8:1::1"}
"""At the other end of a link: of the second half of the range for benchmarks (RFC 2544), and of another network."""

MOST_TARGETS = 1 << 16
"""A column of 16 bits names them."""

MOST_NAMED = 5
"""Ports that a finding names one by one."""

FIRST_UNPRIVILEGED = 1024


def choose_targets(texts: tuple[str, ...], family: int | None = None, *, allow_remote: bool) -> tuple[Endpoint, ...]:
    """Read every `HOST:PORT`; none where none is given.

    Raises:
        UsageError: As of one; or one comes twice, they are not all of one family, or they are too many.
        TargetError: A name that does not resolve.
    """
    if len(texts) > MOST_TARGETS:
        raise UsageError(f"{len(texts):,} --target are too many", f"name up to {MOST_TARGETS:,}")
    targets: dict[Endpoint, None] = {}
    first: Endpoint | None = None
    for text in texts:
        target = _choose_target(text, family, allow_remote=allow_remote)
        first = first or target
        if target in targets:
            raise UsageError(f"--target {text}: {target} is there twice", "name each once")
        if family_of(target.host) != family_of(first.host):
            raise UsageError(
                f"--target {text}: {target} and {first} are not of one family",
                "give addresses of one family; a name that has both takes that of --family",
            )
        targets[target] = None
    return tuple(targets)


def _choose_target(text: str, family: int | None, *, allow_remote: bool) -> Endpoint:
    """Read `HOST:PORT`.

    Raises:
        UsageError: No port in it, a port out of range, or not loopback and not allowed to be remote.
        TargetError: A name that does not resolve.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()):
        raise UsageError(f"--target {text!r} has no port", "write it as HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080")
    try:
        number = parse_number(port)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_PORT:
        raise UsageError(f"--target {text!r}: port {port} is outside 1-{MAX_PORT}", "ports are 1 to 65535")
    address = _resolve(host.strip("[]"), family)
    endpoint = Endpoint(address, number)
    if not is_of_one(address):
        raise UsageError(f"--target {text} is no address of a single host", "for example 127.0.0.1:8080 or [::1]:8080")
    refuse_mapped("--target", address)
    if not endpoint.is_loopback and not allow_remote:
        raise UsageError(
            f"--target {text} is not a loopback address",
            "if you may load that machine with connections, add --allow-remote",
        )
    return endpoint


def _resolve(host: str, family: int | None) -> str:
    """A name's address of the family asked for, of IPv4 if there is one and none is asked for.

    Raises:
        UsageError: An address of the other family.
        TargetError: Nothing of that name.
    """
    if family is not None and is_address(host) and ip_version(host) != family:
        raise UsageError(f"--target {host} is not of IPv{family}", f"leave out --family {family}, or give another")
    kind = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]
    try:
        found = socket.getaddrinfo(host, None, kind, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError is for what can be no name at all: an empty or an endless label.
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        asked = f" with --family {family}" if family else ""
        raise TargetError(f"--target {host!r}{asked}: {reason}", "give an address") from error
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def own_endpoint(ports: PortRange, namespace: Namespace, family: int = 4, link: Link = Link.LOOPBACK) -> Endpoint:
    """Where connbench's own listener listens: beside the range, so that it takes none of its ports."""
    host = DEFAULT_TARGET_HOST if family == 4 else DEFAULT_TARGET_HOST_6 if namespace.is_own else "::1"
    if link is Link.VETH:
        host = FAR_TARGET_HOSTS[family]
    below = range(ports.low - 1, FIRST_UNPRIVILEGED - 1, -1)
    above = range(ports.high + 1, MAX_PORT + 1)
    privileged = range(min(ports.low, FIRST_UNPRIVILEGED) - 1, 0, -1) if namespace.is_own else range(0)
    for candidates in (below, above, privileged):
        for port in candidates:
            endpoint = Endpoint(host, port)
            if namespace.is_own or _is_free(endpoint):
                return endpoint
    return Endpoint(host, ports.high)


def note_listener_in_range(targets: tuple[Endpoint, ...], ports: PortRange) -> list[Finding]:
    """What to know of listeners of one's own that take ports of the range."""
    taken = sorted({target.port for target in targets if target.port in ports})
    if not taken:
        return []
    more = f" and {len(taken) - MOST_NAMED} more" if len(taken) > MOST_NAMED else ""
    named = ", ".join(map(str, taken[:MOST_NAMED])) + more
    one = len(taken) == 1
    return [
        Finding(
            "listener-in-range",
            Severity.NOTE,
            f"the listener's port {named} is one of the range {ports}"
            if one
            else f"the listeners' ports {named} are of the range {ports}",
            f"{'one connection' if one else f'{len(taken):,} connections'} fewer may fit; "
            "a --port-range or --target without it avoids that",
        )
    ]


def _is_free(endpoint: Endpoint) -> bool:
    with socket.socket(family_of(endpoint.host), socket.SOCK_STREAM) as probe_socket:
        try:
            probe_socket.bind((endpoint.host, endpoint.port))
        except OSError:
            return False
    return True


def probe(source: str, target: Endpoint, timeout: float, without_target: str) -> None:
    """Make sure that somebody answers at the target.

    Args:
        source: The address to connect from.
        target: Where to.
        timeout: How long to wait, in seconds.
        without_target: The way out for whoever wants a listener of connbench's own.

    Raises:
        TargetError: It refuses, does not answer, or cannot be reached from `source`.
    """
    with socket.socket(family_of(target.host), socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        try:
            sock.bind((source, 0))
            sock.connect((target.host, target.port))
        except TimeoutError as error:
            raise TargetError(
                f"{target} does not answer within {timeout:g} s",
                "check the address, or give more --timeout",
            ) from error
        except ConnectionRefusedError as error:
            raise TargetError(
                f"{target} refuses connections",
                f"start what should listen there; or {without_target}",
            ) from error
        except OSError as error:
            raise TargetError(
                f"{target} cannot be reached from {source}: {error.strerror}",
                "check the address, and the route to it",
            ) from error
