"""Code to paste: a connect() of each strategy in Python, C and Go, and several sources in nginx.

Each has the numbers of the options, for Python and older headers know no names for them, and does IPv4 and IPv6: the
options are at level IPPROTO_IP of both.
"""

from __future__ import annotations

from itertools import pairwise
from string import Template

from connbench.portsearch import snippets_c, snippets_go
from connbench.portsearch.way import FEW, Way

LISTED = 4
"""Addresses up to which a program has them one by one."""


def snippets(way: Way) -> dict[str, str]:
    """Code by language; nginx only has what it can: an address to bind to, and the kernel's own search."""
    found = {"Python": _python(way), "C": snippets_c.code(way), "Go": snippets_go.code(way)}
    if way.window is None and not way.draws_port:
        found["nginx"] = _nginx(way)
    return found


_PYTHON = Template("""\
import errno, itertools, random, socket, struct

SOURCES = itertools.cycle($sources)  # $yours

def connect(target, tries=$tries):
    source = next(SOURCES)
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    for left in reversed(range(tries)):
        sock = socket.socket(family)
        try:
$steps
            sock.connect(target)
            return sock
        except OSError as error:
            sock.close()
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL) or not left:
                raise
""")

_PYTHON_NO_PORT = "            sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT\n"
_PYTHON_ANY = "            sock.bind((source, 0))"
_PYTHON_WINDOW = Template("""\
            low = random.randint($low, $last)
            ports = struct.pack("=I", low | (low + $more) << 16)
            sock.setsockopt(socket.SOL_IP, 51, ports)  # IP_LOCAL_PORT_RANGE
""")
_PYTHON_RANGE = Template("""\
            ports = struct.pack("=I", $low | $high << 16)
            sock.setsockopt(socket.SOL_IP, 51, ports)  # IP_LOCAL_PORT_RANGE
""")
_PYTHON_PORT = Template("            sock.bind((source, random.randint($low, $high)))")


def _python(way: Way) -> str:
    numbers = way.numbers
    if way.draws_port:
        steps = _PYTHON_PORT.substitute(numbers)
    else:
        option = "" if way.window is None else (_PYTHON_RANGE if way.is_whole else _PYTHON_WINDOW).substitute(numbers)
        steps = _PYTHON_NO_PORT + option + _PYTHON_ANY
    sources, yours = str(way.addresses), "your addresses"
    if way.sources > LISTED:
        address = '"192.0.2.{i}"' if way.sources <= FEW else '"198.18.{i // 256}.{i % 256}"'
        sources = f"[f{address} for i in range(1, {way.sources + 1})]"
        yours = f"your {way.sources:,} addresses"
    return _PYTHON.substitute(sources=sources, yours=yours, tries=way.tries, steps=steps)


def _nginx(way: Way) -> str:
    """Equal shares, as split_clients has them: in hundredths of a percent, which are dealt out so that all are used."""
    if way.sources == 1:
        return f"proxy_bind {way.addresses[0]};  # your address\n"
    ends = [10_000 * i // way.sources for i in range(way.sources)]
    shares = [(end - begin) / 100 for begin, end in pairwise(ends)]
    lines = [f"    {share:g}%  {address};" for share, address in zip(shares, way.addresses[:-1], strict=True)]
    return "\n".join(
        (
            "# in http { }: your addresses",
            'split_clients "$remote_addr$remote_port$request_id" $source {',
            *lines,
            f"    *  {way.addresses[-1]};",
            "}",
            "# where proxy_pass stands:",
            "proxy_bind $source;",
            "",
        )
    )
