"""Choose the addresses to connect from and the targets to connect to, and try them before a run."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from connbench.errors import TargetError, UsageError
from connbench.findings import Finding, Severity
from connbench.linux.address_family import family_of
from connbench.linux.sockopts import LINGER_RESET, reuse_address
from connbench.model import (
    DEFAULT_SOURCES,
    MAX_PORT,
    MOST_SOURCES,
    Endpoint,
    Link,
    Namespace,
    PortRange,
    ResolvedName,
    check_not_mapped,
    first_sources,
    format_addresses,
    ip_version,
    is_of_one,
)
from connbench.units import parse_number

LONGEST_SHOWN = 80
"""Characters of a list in a message; the rest is cut."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FORMS = "for example 127.9.9.1, 127.9.9.1-127.9.9.3, 127.9.9.0/28, 2001:db8::1, or several of them with commas"


def choose_sources(
    asked: str | None,
    number: int | None,
    target: Endpoint,
    namespace: Namespace,
    link: Link = Link.LOOPBACK,
    *,
    external: bool = False,
) -> tuple[str, ...]:
    """Choose the addresses that strategies bind to.

    Args:
        asked: A list of addresses, ranges and networks.
        number: The number of addresses, from the default address on.
        target: The target; the addresses are of its family.
        namespace: The namespace that connects; the engine adds IPv6 addresses to one of its own.
        link: The link; the engine adds the addresses to its end of a veth pair, of a routed link too.
        external: Whether another program listens there. It may refuse other sources (redis serves 127.0.0.1 only), so
            the default is the source that the kernel chooses, as for `plain`.

    Raises:
        UsageError: No such addresses, of another family, or not of this host.
        TargetError: No route to the target.
    """
    family = ip_version(target.host)
    check_sources(asked, number)
    if number is not None:
        return first_sources(number, family, link)
    if asked is not None:
        found = parse_sources(asked)
        other = next((address for address in found if ip_version(address) != family), None)
        if other:
            raise UsageError(
                f"--source {other} and target {target} are not both IPv{family}",
                f"give a --source of IPv{family} alone",
            )
        are_given = link is not Link.LOOPBACK or (family == 6 and namespace.is_own)
        return found if are_given else _bindable(found, target)
    if link is not Link.LOOPBACK:
        return first_sources(1, family, link)
    if external or (not target.is_loopback and not (namespace.is_own and family == 6)):
        return (_routed_source(target),)
    return (DEFAULT_SOURCES[family] if family == 4 or namespace.is_own else "::1",)


def check_sources(asked: str | None, number: int | None) -> None:
    """Check that not both --source and --sources are given, and that the number of addresses is possible.

    Raises:
        UsageError: Both are given, or the number is out of bounds.
    """
    if asked is not None and number is not None:
        raise UsageError(
            f"--source {asked} and --sources {number} both set the source addresses", "leave one of them out"
        )
    if number is not None and not 1 <= number <= MOST_SOURCES:
        raise UsageError(f"--sources {number} is not a number of addresses", f"give 1 to {MOST_SOURCES}")


def parse_sources(text: str) -> tuple[str, ...]:
    """Read addresses, ranges (`LOW-HIGH`) and networks (`ADDRESS/BITS`, without its first and last address), by commas.

    Raises:
        UsageError: Not of that form, an address twice, or too many of them.
    """
    found = tuple(islice((str(a) for part in text.split(",") for a in _part(part.strip(), text)), MOST_SOURCES + 1))
    if len(found) > MOST_SOURCES:
        raise UsageError(f"--source {_short(text)}: more than {MOST_SOURCES} addresses", "name fewer")
    twice = next((address for address, number in Counter(found).items() if number > 1), None)
    if twice:
        raise UsageError(f"--source {_short(text)}: {twice} is named twice", "name each address once")
    if len({":" in address for address in found}) > 1:
        raise UsageError(f"--source {_short(text)} has IPv4 and IPv6 addresses", "give addresses of one family")
    nobodys = next((address for address in found if not is_of_one(address)), None)
    if nobodys:
        raise UsageError(f"--source {nobodys} is not the address of a single host", _FORMS)
    for address in found:
        check_not_mapped("--source", address)
    return found


def _short(text: str) -> str:
    """A list, cut if it is too long for a message of two lines."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _part(part: str, whole: str) -> Iterator[Address]:
    try:
        if "/" in part:
            yield from ipaddress.ip_network(part, strict=False).hosts()
        elif "-" in part:
            low, _, high = part.partition("-")
            first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
            if first.version != last.version:
                fault = f"--source {_short(whole)}: range {part} has IPv4 and IPv6 ends"
                raise UsageError(fault, "give ends of one family")
            if int(first) > int(last):
                raise UsageError(f"--source {_short(whole)}: range {part} is reversed", f"write it as {last}-{first}")
            yield from (first + i for i in range(int(last) - int(first) + 1))
        else:
            yield ipaddress.ip_address(part)
    except ValueError as error:
        host, _, port = part.rpartition(":")
        if port.isdecimal() and is_address(host.strip("[]")):
            fault, hint = f"--source {_short(whole)!r} has a port", f"give the address alone, as in {host.strip('[]')}"
            raise UsageError(fault, f"{hint}; --port-range says from which ports") from error
        raise UsageError(f"--source {_short(whole)!r} is not an IP address: {_short(str(error))}", _FORMS) from error


def is_address(text: str) -> bool:
    """Whether a text is an IP address, not a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _bindable(addresses: tuple[str, ...], target: Endpoint) -> tuple[str, ...]:
    for address in addresses:
        with socket.socket(family_of(address), socket.SOCK_STREAM) as probe_socket:
            try:
                probe_socket.bind((address, 0))
            except OSError as error:
                raise UsageError(
                    f"--source {address} is not an address of this host",
                    "any of 127.0.0.0/8 is; `ip address` lists the others"
                    if target.is_loopback and ":" not in target.host
                    else "`ip address` lists those that are",
                ) from error
    return addresses


def _routed_source(target: Endpoint) -> str:
    """The source address that the kernel chooses for a target; connect() of a UDP socket sends nothing."""
    with socket.socket(family_of(target.host), socket.SOCK_DGRAM) as probe_socket:
        try:
            probe_socket.connect((target.host, target.port))
        except OSError as error:
            raise TargetError(f"no route to {target}: {error.strerror}", "check the address") from error
        return str(probe_socket.getsockname()[0])


DEFAULT_TARGET_HOST, DEFAULT_TARGET_HOST_6 = "127.9.9.2", "2001:db8::2"
"""The target of the talk, and one in the prefix for documentation (RFC 3849), which the namespace gets."""

FAR_TARGET_HOSTS = {4: "198.19.0.1", 6: "2001:db8:1::1"}
"""The targets at the other end of a veth link: in the second half of 198.18.0.0/15 (RFC 2544), and in another /64."""

MOST_TARGETS = 1 << 16
"""Targets of a run. A column of 16 bits holds their indices."""

MOST_NAMED = 5
"""Ports that a finding lists; it counts the others."""

FIRST_UNPRIVILEGED = 1024


def choose_targets(
    texts: tuple[str, ...], family: int | None = None, *, allow_remote: bool
) -> tuple[tuple[Endpoint, ...], tuple[ResolvedName, ...]]:
    """Read the targets, each as `HOST:PORT`. Each host name is resolved once.

    Returns:
        The targets by their addresses, and the names among them.

    Raises:
        UsageError: A target is not of that form, not allowed or named twice; or the targets are of both families, or
            too many.
        TargetError: A name does not resolve.
    """
    if len(texts) > MOST_TARGETS:
        raise UsageError(f"{len(texts):,} --target are too many", f"name up to {MOST_TARGETS:,}")
    targets: dict[Endpoint, None] = {}
    names: dict[str, ResolvedName] = {}
    first: Endpoint | None = None
    for text in texts:
        target = _choose_target(text, family, names, allow_remote=allow_remote)
        first = first or target
        if target in targets:
            raise UsageError(f"--target {text}: {target} is named twice", "name each once")
        if family_of(target.host) != family_of(first.host):
            raise UsageError(
                f"--target {text}: {target} and {first} are not of one family",
                "give addresses of one family; a name that has both takes that of --family",
            )
        targets[target] = None
    return tuple(targets), tuple(names.values())


def _choose_target(text: str, family: int | None, names: dict[str, ResolvedName], *, allow_remote: bool) -> Endpoint:
    """Read `HOST:PORT`; a host name is taken from `names`, or added there.

    Raises:
        UsageError: The port is missing or out of range, or the host is not this one and `allow_remote` is not given.
        TargetError: The name does not resolve.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()):
        raise UsageError(f"--target {text!r} has no port", "write it as HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080")
    try:
        number = parse_number(port)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_PORT:
        raise UsageError(f"--target {text!r}: port {port} is outside 1-{MAX_PORT}", f"ports are 1 to {MAX_PORT}")
    address = _address_of(host.strip("[]"), family, names)
    endpoint = Endpoint(address, number)
    if not is_of_one(address):
        raise UsageError(
            f"--target {text} is not the address of a single host", "for example 127.0.0.1:8080 or [::1]:8080"
        )
    check_not_mapped("--target", address)
    if not endpoint.is_loopback and not allow_remote:
        named = f", but {address}" if address != host.strip("[]") else ""
        raise UsageError(
            f"--target {text} is not a loopback address{named}",
            "if you may load that machine with connections, add --allow-remote",
        )
    return endpoint


def _address_of(host: str, family: int | None, names: dict[str, ResolvedName]) -> str:
    if host in names:
        return names[host].address
    addresses = _resolve(host, family)
    if not is_address(host):
        names[host] = ResolvedName(host, addresses[0], len(addresses))
    return addresses[0]


def _resolve(host: str, family: int | None) -> list[str]:
    """Resolve a name to its addresses of a family; without one to all that it has, those of IPv4 first.

    Raises:
        UsageError: `host` is an address of the other family.
        TargetError: The name does not resolve.
    """
    if family is not None and is_address(host) and ip_version(host) != family:
        raise UsageError(f"--target {host} is not of IPv{family}", f"leave out --family {family}, or give another")
    kind = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[family]
    try:
        found = socket.getaddrinfo(host, None, kind, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError means that the text cannot be a host name: a label is empty or too long.
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        asked = f" with --family {family}" if family else ""
        raise TargetError(f"--target {host!r}{asked}: {reason}", "give an address") from error
    in_order = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys(str(entry[4][0]) for entry in in_order))


def find_several_addresses(names: tuple[ResolvedName, ...]) -> list[Finding]:
    """Find host names that have more than one address: the run connects to one of them."""
    several = [one for one in names if one.addresses > 1]
    if not several:
        return []
    return [
        Finding(
            "several-addresses",
            Severity.NOTE,
            f"the run connects to {format_addresses(several, 'name')}",
            "the name is resolved once, before the run; --family 4 or 6, or an address in its place, chooses another",
        )
    ]


def listener_endpoint(ports: PortRange, namespace: Namespace, family: int = 4, link: Link = Link.LOOPBACK) -> Endpoint:
    """Choose where connbench's own listener listens: at a port outside the range, if one is free."""
    host = DEFAULT_TARGET_HOST if family == 4 else DEFAULT_TARGET_HOST_6 if namespace.is_own else "::1"
    if link.has_two_ends:
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


def find_listener_in_range(targets: tuple[Endpoint, ...], ports: PortRange) -> list[Finding]:
    """Find ports of the range that connbench's own listeners take."""
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
            f"the listener's port {named} is in the range {ports}"
            if one
            else f"the listeners' ports {named} are in the range {ports}",
            f"{'one connection' if one else f'{len(taken):,} connections'} fewer may fit; "
            "a --port-range or --target without it avoids that",
        )
    ]


def _is_free(endpoint: Endpoint) -> bool:
    with socket.socket(family_of(endpoint.host), socket.SOCK_STREAM) as probe_socket:
        try:
            reuse_address(probe_socket)
            probe_socket.bind((endpoint.host, endpoint.port))
        except OSError:
            return False
    return True


def check_answers(source: str, target: Endpoint, timeout: float, listener_hint: str, firewall: str = "") -> None:
    """Check that a target accepts a connection.

    Args:
        source: The address to connect from.
        target: The address and port to connect to.
        timeout: How long to wait for an answer, in seconds.
        listener_hint: How to have connbench start the listener instead, for the hint.
        firewall: What else can be in the way, for the hint.

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
                f"check the address{firewall}, or give a longer --timeout",
            ) from error
        except ConnectionRefusedError as error:
            raise TargetError(
                f"{target} refuses connections",
                f"start the program that listens there; or {listener_hint}",
            ) from error
        except OSError as error:
            raise TargetError(
                f"{target} cannot be reached from {source}: {error.strerror}",
                "check the address, and the route to it",
            ) from error
