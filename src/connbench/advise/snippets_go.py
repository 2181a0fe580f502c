"""Code to paste in Go."""

from __future__ import annotations

from string import Template

from connbench.advise.snippet_spec import SnippetSpec

_GO = Template("""\
import (
$imports
)

// dial connects to target${yours}.$seed
func dial(${source}target string) (conn net.Conn, err error) {
	for try := 0; try < $tries; try++ {
$steps
		conn, err = dialer.Dial("$network", target)
		var call *os.SyscallError
		// bind says EADDRNOTAVAIL of an address that is not this host's.
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

// dial connects to target${yours}.$seed
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
# Of variables, for the constant low | high<<16 is no int on 32 bits; the kernel takes it as 32 bits without a sign.
_GO_WINDOW = Template("""\
		low := $low + rand.Intn($offsets)
		ports := low | (low+$more)<<16
""")
_GO_RANGE = Template("\t\tlow, high := $low, $high\n\t\tports := low | high<<16\n")
_GO_PORT = Template("\t\tdialer := net.Dialer{LocalAddr: &net.$kind{${source}Port: $low + rand.Intn($count)}}")
_GO_ADDRESS = Template("\t\tdialer := net.Dialer{LocalAddr: &net.$kind{IP: source}}")
_GO_ANY = "\t\tdialer := net.Dialer{}"


def code(spec: SnippetSpec) -> str:
    """A function dial()."""
    is_retried = spec.tries > 1
    steps = _steps(spec)
    names = ["errors"] * is_retried + ["math/rand"] * spec.is_random + ["net"] + ["os"] * is_retried
    names += ["syscall"] * (is_retried or "syscall." in steps)
    yours = " from source, an address of yours, each in its turn and of target's family" if spec.takes_turns else ""
    return (_GO if is_retried else _GO_ONCE).substitute(
        imports="\n".join(f'\t"{name}"' for name in names),
        yours=yours,
        source="source net.IP, " if spec.takes_turns else "",
        seed=" Before Go 1.20 call rand.Seed in main." if spec.is_random else "",
        tries=spec.tries,
        steps=steps if is_retried else "\n".join(line.removeprefix("\t") for line in steps.split("\n")),
        network="udp" if spec.is_udp else "tcp",
        in_connect=_GO_IN_CONNECT_UDP if spec.is_udp else _GO_IN_CONNECT,
    )


def _steps(spec: SnippetSpec) -> str:
    """What makes the dialer."""
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
