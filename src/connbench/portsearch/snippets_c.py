"""Code to paste in C."""

from __future__ import annotations

from string import Template

from connbench.portsearch.way import Way

_C = Template("""\
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
$draws#include <unistd.h>

$below/* A connected socket, or -1 and errno; source is an address of yours${turns}, IPv4 or IPv6 as target is. */
int connect_from(const struct sockaddr *source, const struct sockaddr *target, socklen_t size)
{
    for (int left = $tries; left-- > 0;) {
        union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } from;
        int fd = socket(source->sa_family, SOCK_STREAM, 0);
        if (fd < 0)
            return -1;
        memcpy(&from, source, size);
${steps}bind(fd, &from.any, size) == 0 && connect(fd, target, size) == 0)
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
_C_ANY = """\
        int one = 1; /* IP_BIND_ADDRESS_NO_PORT */
        from.v4.sin_port = 0; /* where IPv6 has it, too */
"""
_C_NO_PORT = "        if (setsockopt(fd, IPPROTO_IP, 24, &one, sizeof one) == 0 &&\n            "
_C_OPTION = "setsockopt(fd, IPPROTO_IP, 51, &ports, sizeof ports) == 0 && /* IP_LOCAL_PORT_RANGE */\n            "
_C_WINDOW = Template("""\
        uint32_t low = $low + below($offsets);
        uint32_t ports = low | (low + $more) << 16;
""")
_C_RANGE = Template("        uint32_t ports = $low | (uint32_t)$high << 16;\n")
_C_PORT = Template("        from.v4.sin_port = htons($low + below($count)); /* where IPv6 has it, too */\n        if (")


def code(way: Way) -> str:
    """A function connect_from()."""
    numbers = way.numbers
    if way.draws_port:
        steps = _C_PORT.substitute(numbers)
    else:
        ports = "" if way.window is None else (_C_RANGE if way.is_whole else _C_WINDOW).substitute(numbers)
        steps = _C_ANY + ports + _C_NO_PORT + ("" if way.window is None else _C_OPTION)
    turns = ", each in its turn" if way.sources > 1 else ""
    draws, below = ("#include <sys/random.h>\n", _C_BELOW) if way.is_random else ("", "")
    return _C.substitute(draws=draws, below=below, turns=turns, tries=way.tries, steps=steps)
