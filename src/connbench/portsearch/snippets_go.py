"""Code to paste in Go."""

from __future__ import annotations

from string import Template

from connbench.portsearch.way import Way

_GO = Template("""\
import (
$imports
)

// dial connects from source, an address of yours${turns}, IPv4 or IPv6 as target is.$seed
func dial(source net.IP, target string) (conn net.Conn, err error) {
	for try := 0; try < $tries; try++ {
$steps
		conn, err = dialer.Dial("tcp", target)
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
# Of variables, for the constant low | high<<16 is no int on 32 bits; the kernel takes it as 32 bits without a sign.
_GO_WINDOW = Template("""\
		low := $low + rand.Intn($offsets)
		ports := low | (low+$more)<<16
""")
_GO_RANGE = Template("\t\tlow, high := $low, $high\n\t\tports := low | high<<16\n")
_GO_PORT = Template("\t\tdialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: source, Port: $low + rand.Intn($count)}}")


def code(way: Way) -> str:
    """A function dial()."""
    numbers = way.numbers
    if way.draws_port:
        steps = _GO_PORT.substitute(numbers)
    else:
        ports = "" if way.window is None else (_GO_RANGE if way.is_whole else _GO_WINDOW).substitute(numbers)
        steps = _GO_DIALER.substitute(ports=ports, option="" if way.window is None else _GO_OPTION)
    draws = way.is_random
    imports = "\n".join(f'\t"{name}"' for name in ("errors", *["math/rand"] * draws, "net", "syscall"))
    turns = ", each in its turn" if way.sources > 1 else ""
    seed = " Before Go 1.20 call rand.Seed in main." if draws else ""
    return _GO.substitute(imports=imports, turns=turns, seed=seed, tries=way.tries, steps=steps)
