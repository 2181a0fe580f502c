"""Code to paste: connect() by each strategy in Python, C and Go, and source addresses for nginx and haproxy.

The code sets the socket options by their numbers, because Python and older headers have no names for them. It works
with IPv4 and IPv6, which both have the options at level IPPROTO_IP. It tries again only if a port is in use: connect()
then fails with EADDRNOTAVAIL. From bind() the same error means that the address is not one of this host's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from string import Template

from connbench.model import PortRange

LISTED = 4
"""The most addresses that the Python code lists one by one; more of them it counts up."""

FEW = 254
"""The most addresses for which the code has placeholders of 192.0.2.0/24 (documentation, RFC 5737). For more it has
those of 198.18.0.0/15 (benchmarks, RFC 2544)."""


@dataclass(frozen=True, slots=True)
class SnippetSpec:
    """What the code to paste does.

    Attributes:
        ports: The port range.
        window: Size of the window, in ports: drawn at random if it is smaller than the range, else the whole range.
            None if the code does not set IP_LOCAL_PORT_RANGE.
        tries: Most tries of a connection, 1 or more.
        sources: Number of source addresses, used in turn; with one the code leaves the source to the kernel.
        names_source: Whether the code names its source address even if it has only one.
        draws_port: Whether the code draws a port and binds to it.
        is_udp: Whether the sockets are UDP sockets.
        listed: The ports that haproxy takes one after the other: none of them reserved. None for `ports`.
    """

    ports: PortRange
    window: int | None = None
    tries: int = 1
    sources: int = 1
    names_source: bool = False
    draws_port: bool = False
    is_udp: bool = False
    listed: PortRange | None = None

    @property
    def addresses(self) -> list[str]:
        """Placeholders for the source addresses."""
        few = self.sources <= FEW
        return [f"192.0.2.{i}" if few else f"198.18.{i // 256}.{i % 256}" for i in range(1, self.sources + 1)]

    @property
    def takes_turns(self) -> bool:
        """Whether the code binds to addresses that it names, in turn if there are several."""
        return self.sources > 1 or self.names_source

    @property
    def defers_port(self) -> bool:
        """Whether bind() leaves the port to connect(). UDP's port search is in bind()."""
        return self.takes_turns and not self.draws_port and not self.is_udp

    @property
    def is_random(self) -> bool:
        """Whether the code draws random numbers."""
        return self.draws_port or (self.window is not None and not self.is_whole)

    @property
    def is_whole(self) -> bool:
        """Whether the window is the whole range."""
        return self.window == len(self.ports)

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers in the code, by their names in the templates."""
        low, high, window = self.ports.low, self.ports.high, self.window or len(self.ports)
        return {
            "low": low,
            "high": high,
            "count": len(self.ports),
            "last": high - window + 1,
            "more": window - 1,
            "offsets": len(self.ports) - window + 1,
            "tries": self.tries,
        }


def snippets(spec: SnippetSpec) -> dict[str, str]:
    """The code, by language.

    nginx can bind to an address and leave the port to the kernel, nothing else: other strategies have no code for it.
    haproxy takes the ports of a list one after the other, without a search. Neither has code for UDP.
    """
    found = {"Python": _python(spec), "C": _c(spec), "Go": _go(spec)}
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
            # From bind() EADDRNOTAVAIL means that the address is not this host's.
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
    sources, yours = str(spec.addresses), "put your addresses here"
    if spec.sources > LISTED:
        address = '"192.0.2.{i}"' if spec.sources <= FEW else '"198.18.{i // 256}.{i % 256}"'
        sources = f"[f{address} for i in range(1, {spec.sources + 1})]"
        yours = f"put your {spec.sources:,} addresses here"
    return f"SOURCES = itertools.cycle({sources})  # {yours}\n\n\n"


_C = Template("""\
#include <errno.h>
#include <netinet/in.h>
${memory}${draws}#include <sys/socket.h>
#include <unistd.h>

$below/* Returns a connected socket, or -1 with errno set.${yours} */
int connect_from(${source}const struct sockaddr *target, socklen_t size)
{
    for (int left = $tries; left-- > 0;) {
        int fd = socket(target->sa_family, $kind, 0), in_connect = 0;
        if (fd < 0)
            return -1;
${steps}            (in_connect = 1, connect(fd, target, size) == 0))
            return fd;
        int why = errno;
        close(fd);
        errno = why;
        /* From bind() EADDRNOTAVAIL means that the address is not this host's. */
        if (in_connect ? $in_connect : why != EADDRINUSE)
            return -1;
    }
    return -1;
}
""")
_C_BELOW = """\
/* A random number from the kernel: random() draws the same numbers in each
   process that does not seed it. */
static uint32_t below(uint32_t number)
{
    uint32_t drawn = 0;
    return getrandom(&drawn, sizeof drawn, 0) < 0 ? 0 : drawn % number;
}

"""
_C_FROM = "        union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } from;\n"
_C_COPY = "        memcpy(&from, source, size);\n"
_C_ANY_SOURCE = """\
        memset(&from, 0, sizeof from);
        from.any.sa_family = target->sa_family;
"""
_C_NO_PORT = "setsockopt(fd, IPPROTO_IP, 24, &one, sizeof one) == 0 && /* IP_BIND_ADDRESS_NO_PORT */\n            "
_C_OPTION = "setsockopt(fd, IPPROTO_IP, 51, &ports, sizeof ports) == 0 && /* IP_LOCAL_PORT_RANGE */\n            "
_C_WINDOW = Template("""\
        uint32_t low = $low + below($offsets);
        uint32_t ports = low | (low + $more) << 16;
""")
_C_RANGE = Template("        uint32_t ports = $low | (uint32_t)$high << 16;\n")
_C_PORT = Template("        from.v4.sin_port = htons($low + below($count)); /* IPv6 has it at the same place */\n")
_C_PORT_0 = "        from.v4.sin_port = 0; /* IPv6 has it at the same place */\n"
_C_BIND = "bind(fd, &from.any, size) == 0 &&\n            "


def _c(spec: SnippetSpec) -> str:
    """A function connect_from() in C."""
    numbers, binds = spec.numbers, spec.takes_turns or spec.draws_port
    steps = ""
    if binds:
        steps += _C_FROM + (_C_COPY if spec.takes_turns else _C_ANY_SOURCE)
        steps += _C_PORT.substitute(numbers) if spec.draws_port else _C_PORT_0
    if spec.defers_port:
        steps += "        int one = 1;\n"
    if spec.window is not None:
        steps += (_C_RANGE if spec.is_whole else _C_WINDOW).substitute(numbers)
    steps += "        if ("
    steps += _C_NO_PORT if spec.defers_port else ""
    steps += "" if spec.window is None else _C_OPTION
    steps += _C_BIND if binds else ""
    whose = "\n   Pass each of your addresses in turn as source; it has the family of target."
    needs_numbers = spec.window is not None or spec.is_random
    return _C.substitute(
        memory=("#include <stdint.h>\n" if needs_numbers else "") + ("#include <string.h>\n" if binds else ""),
        draws="#include <sys/random.h>\n" if spec.is_random else "",
        below=_C_BELOW if spec.is_random else "",
        yours=whose if spec.takes_turns else "",
        source="const struct sockaddr *source, " if spec.takes_turns else "",
        kind="SOCK_DGRAM" if spec.is_udp else "SOCK_STREAM",
        tries=spec.tries,
        steps=steps.removesuffix("            "),
        in_connect="why != EAGAIN && why != EADDRNOTAVAIL" if spec.is_udp else "why != EADDRNOTAVAIL",
    )


_GO = Template("""\
import (
$imports
)

// dial connects to target.${yours}$seed
func dial(${source}target string) (conn net.Conn, err error) {
	for try := 0; try < $tries; try++ {
$steps
		conn, err = dialer.Dial("$network", target)
		var call *os.SyscallError
		// From bind EADDRNOTAVAIL means that the address is not this host's.
		isTaken := errors.Is(err, syscall.EADDRINUSE) || $in_connect
		if !isTaken {
			return conn, err
		}
	}
	return nil, err
}
""")
_GO_IN_CONNECT = 'errors.As(err, &call) && call.Syscall == "connect" && errors.Is(err, syscall.EADDRNOTAVAIL)'
_GO_IN_CONNECT_UDP = (
    'errors.As(err, &call) && call.Syscall == "connect" &&\n'
    "\t\t\t(errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAGAIN))"
)
_GO_ONCE = Template("""\
import (
$imports
)

// dial connects to target.${yours}$seed
func dial(${source}target string) (net.Conn, error) {
$steps
	return dialer.Dial("$network", target)
}
""")
_GO_CONTROL = Template("""\
$ports		dialer := net.Dialer{
$local			Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				if failed := c.Control(func(fd uintptr) {
$options				}); failed != nil {
					return failed
				}
				return err
			},
		}""")
_GO_NO_PORT = """\
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 24, 1) // IP_BIND_ADDRESS_NO_PORT
"""
_GO_OPTION = """\
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 51, ports) // IP_LOCAL_PORT_RANGE
"""
_GO_OPTION_TOO = """\
					if err == nil {
						err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 51, ports) // IP_LOCAL_PORT_RANGE
					}
"""
# Variables, because the constant low | high<<16 does not fit an int of 32 bits; the kernel reads 32 bits, unsigned.
_GO_WINDOW = Template("""\
		low := $low + rand.Intn($offsets)
		ports := low | (low+$more)<<16
""")
_GO_RANGE = Template("\t\tlow, high := $low, $high\n\t\tports := low | high<<16\n")
_GO_PORT = Template("\t\tdialer := net.Dialer{LocalAddr: &net.$kind{${source}Port: $low + rand.Intn($count)}}")
_GO_ADDRESS = Template("\t\tdialer := net.Dialer{LocalAddr: &net.$kind{IP: source}}")
_GO_ANY = "\t\tdialer := net.Dialer{}"


def _go(spec: SnippetSpec) -> str:
    """A function dial() in Go."""
    is_retried = spec.tries > 1
    steps = _go_steps(spec)
    names = ["errors"] * is_retried + ["math/rand"] * spec.is_random + ["net"] + ["os"] * is_retried
    names += ["syscall"] * (is_retried or "syscall." in steps)
    whose = " Pass each of your addresses in turn as source;\n// it has the family of target."
    return (_GO if is_retried else _GO_ONCE).substitute(
        imports="\n".join(f'\t"{name}"' for name in names),
        yours=whose if spec.takes_turns else "",
        source="source net.IP, " if spec.takes_turns else "",
        seed="\n// Before Go 1.20 call rand.Seed in main." if spec.is_random else "",
        tries=spec.tries,
        steps=steps if is_retried else "\n".join(line.removeprefix("\t") for line in steps.split("\n")),
        network="udp" if spec.is_udp else "tcp",
        in_connect=_GO_IN_CONNECT_UDP if spec.is_udp else _GO_IN_CONNECT,
    )


def _go_steps(spec: SnippetSpec) -> str:
    """The lines that make the dialer."""
    numbers, kind = spec.numbers, "UDPAddr" if spec.is_udp else "TCPAddr"
    if spec.draws_port:
        return _GO_PORT.substitute(numbers, kind=kind, source="IP: source, " if spec.takes_turns else "")
    if spec.window is None and not spec.defers_port:
        return _GO_ADDRESS.substitute(kind=kind) if spec.takes_turns else _GO_ANY
    options = _GO_NO_PORT if spec.defers_port else ""
    if spec.window is not None:
        options += _GO_OPTION_TOO if options else _GO_OPTION
    ports = "" if spec.window is None else (_GO_RANGE if spec.is_whole else _GO_WINDOW).substitute(numbers)
    local = f"\t\t\tLocalAddr: &net.{kind}{{IP: source}},\n" if spec.takes_turns else ""
    return _GO_CONTROL.substitute(ports=ports, local=local, options=options)


def _nginx(spec: SnippetSpec) -> str:
    """split_clients with the same share for each address, in hundredths of a percent that add up to 100 %."""
    ends = [10_000 * i // spec.sources for i in range(spec.sources)]
    shares = [(end - begin) / 100 for begin, end in pairwise(ends)]
    lines = [f"    {share:g}%  {address};" for share, address in zip(shares, spec.addresses[:-1], strict=True)]
    return "\n".join(
        (
            "# in http { }; put your addresses here",
            'split_clients "$remote_addr$remote_port$request_id" $source {',
            *lines,
            f"    *  {spec.addresses[-1]};",
            "}",
            "# next to proxy_pass:",
            "proxy_bind $source;",
            "",
        )
    )


def _haproxy(spec: SnippetSpec) -> str:
    """A server line for each source: haproxy keeps a list of its free ports, and needs no search."""
    ports: PortRange = spec.listed or spec.ports
    addresses = spec.addresses if spec.takes_turns else ["0.0.0.0"]  # noqa: S104  # any address: the route decides
    yours = (
        "put your addresses and your server here"
        if spec.takes_turns
        else "put your server here; 0.0.0.0 is any address of this host"
    )
    lines = [
        f"    server s{number} 192.0.2.200:80 source {address}:{ports}"
        for number, address in enumerate(addresses, start=1)
    ]
    return "\n".join((f"# in the backend; {yours}", *lines, ""))
