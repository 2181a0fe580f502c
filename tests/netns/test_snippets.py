"""The code that advice has to paste: it runs, and connects from where it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connbench.linux.families import has_ipv6
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import PortRange
from connbench.portsearch.snippets import snippets
from connbench.portsearch.way import Way
from needs import needs, program, require
from support import HANG_S, INSIDE

PORTS = PortRange(40000, 40063)
INNER = PortRange(40008, 40039)
"""Of the namespace's range, the part that code with the option is to keep to."""

TARGET, TARGET6 = "127.9.9.2:39999", "[::1]:39999"
WAYS = {
    "bind": Way(PORTS),
    "random": Way(PORTS, tries=1000, draws_port=True),
    "window": Way(INNER, window=4, tries=1000),
    "range": Way(INNER, window=len(INNER)),
    "two sources": Way(INNER, window=len(INNER), sources=2),
    "many sources": Way(INNER, window=len(INNER), sources=7),
}
NUMBER = 32
PYTHON_MAIN = f"""
held = [connect(("127.9.9.2", 39999)) for _ in range({NUMBER})]
import json
print(json.dumps([sock.getsockname() for sock in held]))
"""
C_MAIN = """
#include <arpa/inet.h>
#include <stdio.h>
int main(void)
{
#if SIX
    struct sockaddr_in6 source = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, target = source, own;
    target.sin6_port = htons(39999);
    const char *text = "::1";
#else
    struct sockaddr_in source = {.sin_family = AF_INET}, target = source, own;
    target.sin_port = htons(39999);
    const char *text = "127.0.2.1";
    inet_pton(AF_INET, text, &source.sin_addr);
    inet_pton(AF_INET, "127.9.9.2", &target.sin_addr);
#endif
    for (int i = 0; i < NUMBER; i++) {
        int fd = connect_from((struct sockaddr *)&source, (struct sockaddr *)&target, sizeof source);
        socklen_t size = sizeof own;
        if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &size) != 0)
            return 1;
        printf("%s[\\"%s\\", %d]", i ? ", " : "[", text, ntohs(((struct sockaddr_in *)&own)->sin_port));
    }
    puts("]");
    return 0;
}
"""

GO = program("go") or ""
GO_MAIN = f"""
func main() {{
	held := make([]net.Conn, {NUMBER})
	for i := range held {{
		conn, err := dial(net.ParseIP("127.0.2.1"), "127.9.9.2:39999")
		if err != nil {{
			panic(err)
		}}
		held[i] = conn
		own := conn.LocalAddr().(*net.TCPAddr)
		fmt.Printf("%s[%q, %d]", map[bool]string{{true: "[", false: ", "}}[i == 0], own.IP, own.Port)
	}}
	fmt.Println("]")
}}
"""


def ways() -> list[Any]:
    """Those that this kernel has the option for."""
    lacks = pytest.mark.skipif(not is_supported(LOCAL_PORT_RANGE), reason="this kernel has no IP_LOCAL_PORT_RANGE")
    return [pytest.param(way, id=name, marks=[lacks] if way.window else []) for name, way in WAYS.items()]


@pytest.fixture(scope="session")
def go_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For `go build` of a lone file; what it compiles of its library serves all tests."""
    cache = str(tmp_path_factory.mktemp("go"))
    return {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0", "GOCACHE": cache}


def run(*command: str, target: str = TARGET) -> list[tuple[str, int]]:
    """What a program printed of its own ends, in a namespace where somebody listens."""
    done = subprocess.run(
        [
            *INSIDE,
            *("--sysctl", f"net.ipv4.ip_local_port_range={PORTS.low} {PORTS.high}"),
            *("--listen", f"{target}/{2 * NUMBER}"),
            "--",
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    return [(str(host), int(port)) for host, port, *_ in json.loads(done.stdout)]


def check(way: Way, ends: list[tuple[str, int]], sources: int, address: str = "") -> None:
    """As many connections as were asked for, from the addresses and ports that were meant."""
    assert len(set(ends)) == NUMBER
    assert all(port in way.ports for _, port in ends)
    assert {host for host, _ in ends} == ({address} if address else {f"127.0.2.{i + 1}" for i in range(sources)})
    if way.window is not None and sources == 1:
        assert {port for _, port in ends} == set(range(INNER.low, INNER.high + 1))  # as many as it has, so all of them


@pytest.mark.parametrize("way", ways())
def test_python_connects(way: Way) -> None:
    """From each source in turn, with a port of the range; windows and random ports draw again when one is taken."""
    code = snippets(way)["Python"].replace("192.0.2.", "127.0.2.")
    check(way, run(sys.executable, "-c", code + PYTHON_MAIN), way.sources)


@pytest.mark.parametrize("way", ways())
def test_c_connects(way: Way, tmp_path: Path) -> None:
    """It compiles without a warning, and connects as Python's does."""
    source, compiled = tmp_path / "main.c", tmp_path / "main"
    source.write_text(snippets(way)["C"] + C_MAIN, encoding="ascii")
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    subprocess.run([require("cc"), *warnings, f"-DNUMBER={NUMBER}", "-o", compiled, source], check=True)
    check(way, run(str(compiled)), 1)


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is switched off")
@pytest.mark.parametrize("way", [way for way in ways() if "sources" not in str(way.id)])
def test_code_connects_over_ipv6(way: Way, tmp_path: Path) -> None:
    """The same code with an address of IPv6: the options are where those of IPv4 are."""
    python = snippets(way)["Python"].replace("192.0.2.1", "::1") + PYTHON_MAIN.replace("127.9.9.2", "::1")
    check(way, run(sys.executable, "-c", python, target=TARGET6), 1, "::1")
    source, compiled = tmp_path / "main.c", tmp_path / "main"
    source.write_text(snippets(way)["C"] + C_MAIN, encoding="ascii")
    subprocess.run([require("cc"), "-Wall", f"-DNUMBER={NUMBER}", "-DSIX=1", "-o", compiled, source], check=True)
    check(way, run(str(compiled), target=TARGET6), 1, "::1")


def test_c_draws_anew_in_every_process(tmp_path: Path) -> None:
    """Two processes that drew the same ports would go through all that the other has taken before them."""
    source, compiled = tmp_path / "main.c", tmp_path / "main"
    source.write_text(snippets(WAYS["random"])["C"] + C_MAIN, encoding="ascii")
    subprocess.run([require("cc"), f"-DNUMBER={NUMBER}", "-o", compiled, source], check=True)
    assert run(str(compiled)) != run(str(compiled))


@pytest.mark.parametrize("sources", [1, 3, 7])
def test_nginx_takes_the_sources(sources: int, tmp_path: Path) -> None:
    """`nginx -t` finds nothing wrong with it; only the kernel's own search has it, for nginx knows no port range."""
    nginx = require("nginx")
    code = snippets(Way(PORTS, sources=sources))["nginx"]
    assert code.count("192.0.2.") == sources
    outer, _, inner = code.rpartition("# where proxy_pass stands:\n")
    listen = f"unix:{tmp_path}/socket"
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    location = f"location / {{ proxy_pass http://127.0.0.1:8080; {inner} }}"
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{ }}\n"
        f"http {{ access_log off; {paths}\n{outer}\nserver {{ listen {listen}; {location} }} }}\n",
        encoding="ascii",
    )
    done = subprocess.run([nginx, "-t", "-c", configuration], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sources", [2, 3, 300, 750, 4096])
def test_nginx_shares_are_equal(sources: int) -> None:
    """Each address of its own, a hundredth of a percent apart at most; the last has what is left of 100."""
    lines = snippets(Way(PORTS, sources=sources))["nginx"].splitlines()
    pairs = [line.split() for line in lines if line.startswith("    ")]
    assert len({address for _, address in pairs}) == sources
    shares = [float(share.rstrip("%")) for share, _ in pairs if share != "*"]
    shares.append(100 - sum(shares))
    assert max(shares) - min(shares) < 0.0101


@pytest.mark.parametrize("way", ways())
@needs("go")
def test_go_connects(way: Way, tmp_path: Path, go_environment: dict[str, str]) -> None:
    """It builds, and connects as Python's does."""
    source, compiled = tmp_path / "main.go", tmp_path / "main"
    code = snippets(way)["Go"].replace("import (\n", 'import (\n\t"fmt"\n')
    source.write_text("package main\n\n" + code + GO_MAIN, encoding="ascii")
    subprocess.run([GO, "build", "-o", compiled, source], check=True, env=go_environment)
    check(way, run(str(compiled)), 1)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@needs("go")
def test_go_builds_where_int_has_32_bits(way: Way, tmp_path: Path, go_environment: dict[str, str]) -> None:
    """65535<<16 is no constant that such an int takes, and no value that it must not overflow to."""
    source = tmp_path / "dial.go"
    wide = replace(way, ports=PortRange(1024, 65535), window=64_512 if way.is_whole else way.window)
    source.write_text("package main\n\n" + snippets(wide)["Go"] + "\nfunc main() { _ = dial }\n", encoding="ascii")
    command = [GO, "build", "-o", str(tmp_path / "dial"), str(source)]
    subprocess.run(command, check=True, env=go_environment | {"GOARCH": "386"})


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_go_is_of_one_piece(way: Way, tmp_path: Path) -> None:
    """Every brace and parenthesis is closed, no placeholder is left; gofmt parses it where there is one."""
    code = snippets(way)["Go"]
    assert "$" not in code
    for opening, closing in ("()", "{}"):
        assert code.count(opening) == code.count(closing)
    assert ('"math/rand"' in code) == ("rand." in code)
    if gofmt := shutil.which("gofmt"):
        path = tmp_path / "dial.go"
        path.write_text("package main\n\n" + code, encoding="ascii")
        done = subprocess.run([gofmt, "-l", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")
