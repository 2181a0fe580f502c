"""Code to paste in C."""

from __future__ import annotations

from string import Template

from connbench.advise.snippet_spec import SnippetSpec

_C = Template("""\
#include <errno.h>
#include <netinet/in.h>
${memory}${draws}#include <sys/socket.h>
#include <unistd.h>

$below/* A connected socket, or -1 and errno${yours}. */
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
        /* bind() says EADDRNOTAVAIL of an address that is not this host's. */
        if (in_connect ? $in_connect : why != EADDRINUSE)
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
_C_PORT = Template("        from.v4.sin_port = htons($low + below($count)); /* where IPv6 has it, too */\n")
_C_PORT_0 = "        from.v4.sin_port = 0; /* where IPv6 has it, too */\n"
_C_BIND = "bind(fd, &from.any, size) == 0 &&\n            "


def code(spec: SnippetSpec) -> str:
    """A function connect_from()."""
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
    yours = "; source is an address of yours, each in its turn, of target's family" if spec.takes_turns else ""
    needs_numbers = spec.window is not None or spec.is_random
    return _C.substitute(
        memory=("#include <stdint.h>\n" if needs_numbers else "") + ("#include <string.h>\n" if binds else ""),
        draws="#include <sys/random.h>\n" if spec.is_random else "",
        below=_C_BELOW if spec.is_random else "",
        yours=yours,
        source="const struct sockaddr *source, " if spec.takes_turns else "",
        kind="SOCK_DGRAM" if spec.is_udp else "SOCK_STREAM",
        tries=spec.tries,
        steps=steps.removesuffix("            "),
        in_connect="why != EAGAIN && why != EADDRNOTAVAIL" if spec.is_udp else "why != EADDRNOTAVAIL",
    )
