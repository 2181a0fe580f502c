"""Code to paste: a connect() of each strategy in Python, C and Go, and several sources in nginx.

Each has the numbers of the options, for Python and older headers know no names for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from string import Template

from connbench.model import PortRange

FEW = 254
"""So many addresses of documents (RFC 5737) stand for the reader's own; of benchmarks (RFC 2544) if it takes more."""


@dataclass(frozen=True, slots=True)
class Way:
    """What code is to do.

    Attributes:
        ports: The range.
        window: Ports of a random window; as many as the range has for the whole; None for no option.
        tries: Tries of a connection, 1 or more.
        sources: How many addresses to take in turn.
        draws_port: Whether bind() is given a random port.
    """

    ports: PortRange
    window: int | None = None
    tries: int = 1
    sources: int = 1
    draws_port: bool = False

    @property
    def addresses(self) -> list[str]:
        """Placeholders for the source addresses."""
        few = self.sources <= FEW
        return [f"192.0.2.{i}" if few else f"198.18.{i // 256}.{i % 256}" for i in range(1, self.sources + 1)]


def snippets(way: Way) -> dict[str, str]:
    """Code by language; nginx only has what it can: an address to bind to, and the kernel's own search."""
    found = {"Python": _python(way), "C": _c(way), "Go": _go(way)}
    if way.window is None and not way.draws_port:
        found["nginx"] = _nginx(way)
    return found


_PYTHON = Template("""\
import errno, itertools, random, socket, struct

SOURCES = itertools.cycle($sources)  # your addresses

def connect(target, tries=$tries):
    source = next(SOURCES)
    for left in reversed(range(tries)):
        sock = socket.socket()
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
    numbers = _numbers(way)
    if way.draws_port:
        steps = _PYTHON_PORT.substitute(numbers)
    else:
        option = "" if way.window is None else (_PYTHON_RANGE if _is_whole(way) else _PYTHON_WINDOW).substitute(numbers)
        steps = _PYTHON_NO_PORT + option + _PYTHON_ANY
    return _PYTHON.substitute(sources=way.addresses, tries=way.tries, steps=steps)


_C = Template("""\
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
$draws#include <unistd.h>

$below/* A connected socket, or -1 and errno; *source is an address of yours${turns}. */
int connect_from(const struct sockaddr_in *source, const struct sockaddr_in *target)
{
    for (int left = $tries; left-- > 0;) {
        struct sockaddr_in from = *source;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
            return -1;
${steps}bind(fd, (const struct sockaddr *)&from, sizeof from) == 0 &&
            connect(fd, (const struct sockaddr *)target, sizeof *target) == 0)
            return fd;
        int why = errno;
        close(fd);
        errno = why;
        if (why != EADDRINUSE && why != EADDRNOTAVAIL)
            return -1;
    }
    return -1;
}
""")
_C_BELOW = """\
/* Drawn by the kernel: random() is the same in every process that does not seed it. */
static uint32_t below(uint32_t number)
{
    uint32_t drawn = 0;
    return getrandom(&drawn, sizeof drawn, 0) < 0 ? 0 : drawn % number;
}

"""
_C_ANY = "        int one = 1; /* IP_BIND_ADDRESS_NO_PORT */\n        from.sin_port = 0;\n"
_C_NO_PORT = "        if (setsockopt(fd, IPPROTO_IP, 24, &one, sizeof one) == 0 &&\n            "
_C_OPTION = "setsockopt(fd, IPPROTO_IP, 51, &ports, sizeof ports) == 0 && /* IP_LOCAL_PORT_RANGE */\n            "
_C_WINDOW = Template("""\
        uint32_t low = $low + below($offsets);
        uint32_t ports = low | (low + $more) << 16;
""")
_C_RANGE = Template("        uint32_t ports = $low | (uint32_t)$high << 16;\n")
_C_PORT = Template("        from.sin_port = htons($low + below($count));\n        if (")


def _c(way: Way) -> str:
    numbers = _numbers(way)
    if way.draws_port:
        steps = _C_PORT.substitute(numbers)
    else:
        ports = "" if way.window is None else (_C_RANGE if _is_whole(way) else _C_WINDOW).substitute(numbers)
        steps = _C_ANY + ports + _C_NO_PORT + ("" if way.window is None else _C_OPTION)
    turns = ", each in its turn" if way.sources > 1 else ""
    draws, below = ("#include <sys/random.h>\n", _C_BELOW) if _draws(way) else ("", "")
    return _C.substitute(draws=draws, below=below, turns=turns, tries=way.tries, steps=steps)


_GO = Template("""\
import (
$imports
)

// dial connects from source, an address of yours${turns}.$seed
func dial(source net.IP, target string) (conn net.Conn, err error) {
	for try := 0; try < $tries; try++ {
$steps
		conn, err = dialer.Dial("tcp4", target)
		if !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return conn, err
		}
	}
	return nil, err
}
""")
_GO_DIALER = Template("""\
$ports		dialer := net.Dialer{
			LocalAddr: &net.TCPAddr{IP: source},
			Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				if failed := c.Control(func(fd uintptr) {
					err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 24, 1) // IP_BIND_ADDRESS_NO_PORT
$option				}); failed != nil {
					return failed
				}
				return err
			},
		}""")
_GO_OPTION = """\
					if err == nil {
						err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, 51, ports) // IP_LOCAL_PORT_RANGE
					}
"""
_GO_WINDOW = Template("""\
		low := $low + rand.Intn($offsets)
		ports := low | (low+$more)<<16
""")
_GO_RANGE = Template("\t\tports := $low | $high<<16\n")
_GO_PORT = Template("\t\tdialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: source, Port: $low + rand.Intn($count)}}")


def _go(way: Way) -> str:
    numbers = _numbers(way)
    if way.draws_port:
        steps = _GO_PORT.substitute(numbers)
    else:
        ports = "" if way.window is None else (_GO_RANGE if _is_whole(way) else _GO_WINDOW).substitute(numbers)
        steps = _GO_DIALER.substitute(ports=ports, option="" if way.window is None else _GO_OPTION)
    draws = _draws(way)
    imports = "\n".join(f'\t"{name}"' for name in ("errors", *["math/rand"] * draws, "net", "syscall"))
    turns = ", each in its turn" if way.sources > 1 else ""
    seed = " Before Go 1.20 call rand.Seed in main." if draws else ""
    return _GO.substitute(imports=imports, turns=turns, seed=seed, tries=way.tries, steps=steps)


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


def _draws(way: Way) -> bool:
    """Whether the code draws numbers at random."""
    return way.draws_port or (way.window is not None and not _is_whole(way))


def _is_whole(way: Way) -> bool:
    return way.window == len(way.ports)


def _numbers(way: Way) -> dict[str, int]:
    low, high, window = way.ports.low, way.ports.high, way.window or len(way.ports)
    return {
        "low": low,
        "high": high,
        "count": len(way.ports),
        "last": high - window + 1,
        "more": window - 1,
        "offsets": len(way.ports) - window + 1,
    }
