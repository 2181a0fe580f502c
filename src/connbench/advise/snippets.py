"""Code to paste: a connect() of each strategy in Python, C and Go, and source addresses in nginx and haproxy.

Each has the numbers of the options, for Python and older headers know no names for them, and does IPv4 and IPv6: the
options are at level IPPROTO_IP of both. It tries again where a port is taken, and only there: EADDRNOTAVAIL means that
of connect(), and of bind() that the address is not one of this host's.
"""

from __future__ import annotations

from itertools import pairwise
from string import Template

from connbench.advise import snippets_c, snippets_go
from connbench.advise.snippet_spec import FEW, SnippetSpec
from connbench.model import PortRange

LISTED = 4
"""Addresses up to which a program has them one by one."""


def snippets(spec: SnippetSpec) -> dict[str, str]:
    """Code by language.

    nginx only has what it can: an address to bind to, and the kernel's own search. haproxy goes through a list of ports
    by itself. Neither is for UDP.
    """
    found = {"Python": _python(spec), "C": snippets_c.code(spec), "Go": snippets_go.code(spec)}
    if spec.takes_turns and spec.window is None and not spec.draws_port and not spec.is_udp:
        found["nginx"] = _nginx(spec)
    if not spec.is_udp:
        found["haproxy"] = _haproxy(spec)
    return found


_PYTHON = Template("""\
${imports}
${sources}def connect(target, tries=$tries):
    ${family}found = socket.getaddrinfo(*target${of_family}, type=socket.$kind)[0]
    for left in reversed(range(tries)):
        sock, step = socket.socket(*found[:3]), "bind"
        try:
${steps}            step = "connect"
            sock.connect(found[4])
            return sock
        except OSError as error:
            sock.close()
            # bind() says EADDRNOTAVAIL of an address that is not this host's.
            taken = {"bind": $in_bind, "connect": $in_connect}
            if error.errno not in taken[step] or not left:
                raise
""")

_PYTHON_ONCE = Template("""\
${imports}
${sources}def connect(target):
    ${family}found = socket.getaddrinfo(*target${of_family}, type=socket.$kind)[0]
    sock = socket.socket(*found[:3])
    try:
${steps}        sock.connect(found[4])
    except OSError:
        sock.close()
        raise
    return sock
""")

_PYTHON_SOURCE = """\
source = next(SOURCES)
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    """
_PYTHON_NO_PORT = "sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT"
_PYTHON_OPTION = "sock.setsockopt(socket.SOL_IP, 51, ports)  # IP_LOCAL_PORT_RANGE"
_PYTHON_WINDOW = Template("""\
low = random.randint($low, $last)
ports = struct.pack("=I", low | (low + $more) << 16)""")
_PYTHON_RANGE = Template('ports = struct.pack("=I", $low | $high << 16)')
_PYTHON_ANY_SOURCE = '"::" if found[0] == socket.AF_INET6 else "0.0.0.0"'


def _python(spec: SnippetSpec) -> str:
    steps = [_PYTHON_NO_PORT] if spec.defers_port else []
    if spec.window is not None:
        steps += (_PYTHON_RANGE if spec.is_whole else _PYTHON_WINDOW).substitute(spec.numbers).splitlines()
        steps.append(_PYTHON_OPTION)
    if spec.draws_port:
        if not spec.takes_turns:
            steps.append(f"source = {_PYTHON_ANY_SOURCE}")
        steps.append(Template("sock.bind((source, random.randint($low, $high)))").substitute(spec.numbers))
    elif spec.takes_turns:
        steps.append("sock.bind((source, 0))")
    modules = {
        "itertools": spec.takes_turns,
        "random": spec.is_random,
        "socket": True,
        "struct": spec.window is not None,
    }
    is_retried = spec.tries > 1
    imports = ["import errno\n"] if is_retried else []
    imports += [f"import {name}\n" for name, is_used in modules.items() if is_used]
    indent = " " * (12 if is_retried else 8)
    in_bind = "{errno.EADDRINUSE}"
    in_connect = "{errno.EAGAIN, errno.EADDRNOTAVAIL}" if spec.is_udp else "{errno.EADDRNOTAVAIL}"
    return (_PYTHON if is_retried else _PYTHON_ONCE).substitute(
        imports="".join(imports),
        sources=_python_sources(spec),
        family=_PYTHON_SOURCE if spec.takes_turns else "",
        of_family=", family=family" if spec.takes_turns else "",
        kind="SOCK_DGRAM" if spec.is_udp else "SOCK_STREAM",
        tries=spec.tries,
        steps="".join(f"{indent}{step}\n" for step in steps),
        in_bind=in_bind,
        in_connect=in_connect,
    )


def _python_sources(spec: SnippetSpec) -> str:
    if not spec.takes_turns:
        return "\n"
    sources, yours = str(spec.addresses), "your addresses"
    if spec.sources > LISTED:
        address = '"192.0.2.{i}"' if spec.sources <= FEW else '"198.18.{i // 256}.{i % 256}"'
        sources = f"[f{address} for i in range(1, {spec.sources + 1})]"
        yours = f"your {spec.sources:,} addresses"
    return f"SOURCES = itertools.cycle({sources})  # {yours}\n\n\n"


def _nginx(spec: SnippetSpec) -> str:
    """Equal shares, as split_clients has them: in hundredths of a percent, which are dealt out so that all are used."""
    ends = [10_000 * i // spec.sources for i in range(spec.sources)]
    shares = [(end - begin) / 100 for begin, end in pairwise(ends)]
    lines = [f"    {share:g}%  {address};" for share, address in zip(shares, spec.addresses[:-1], strict=True)]
    return "\n".join(
        (
            "# in http { }: your addresses",
            'split_clients "$remote_addr$remote_port$request_id" $source {',
            *lines,
            f"    *  {spec.addresses[-1]};",
            "}",
            "# where proxy_pass stands:",
            "proxy_bind $source;",
            "",
        )
    )


def _haproxy(spec: SnippetSpec) -> str:
    """A server line for each source: haproxy keeps a list of the free ports of each, so that no search is needed."""
    ports: PortRange = spec.listed or spec.ports
    addresses = spec.addresses if spec.takes_turns else ["0.0.0.0"]  # noqa: S104  # the kernel chooses by the route
    yours = "your addresses and your server" if spec.takes_turns else "your server; 0.0.0.0 is any address of this host"
    lines = [
        f"    server s{number} 192.0.2.200:80 source {address}:{ports}"
        for number, address in enumerate(addresses, start=1)
    ]
    return "\n".join((f"# in the backend: {yours}", *lines, ""))
