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

from connbench.advice.snippets import SnippetSpec, snippets
from connbench.linux.address_family import has_ipv6
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import PortRange
from required_programs import needs, program, require
from run_connbench import HANG_S, INSIDE

PORTS = PortRange(40000, 40063)
INNER = PortRange(40008, 40039)
"""The part of the namespace's range that code with the option keeps to."""

TARGET, TARGET6 = "127.9.9.2:39999", "[::1]:39999"
SPECS = {
    "nothing": SnippetSpec(PORTS),
    "random": SnippetSpec(PORTS, tries=1000, draws_port=True),
    "window": SnippetSpec(INNER, window=4, tries=1000),
    "range": SnippetSpec(INNER, window=len(INNER)),
    "two sources": SnippetSpec(INNER, window=len(INNER), sources=2),
    "many sources": SnippetSpec(INNER, window=len(INNER), sources=7),
    "window from two sources": SnippetSpec(INNER, window=4, tries=1000, sources=2),
    "random from two sources": SnippetSpec(PORTS, tries=1000, sources=2, draws_port=True),
    "bind from two sources": SnippetSpec(PORTS, sources=2),
    "bind from one of the sources": SnippetSpec(PORTS, names_source=True),
    "UDP": SnippetSpec(PORTS, is_udp=True),
    "random UDP": SnippetSpec(PORTS, tries=1000, draws_port=True, is_udp=True),
    "window UDP": SnippetSpec(INNER, window=4, tries=1000, is_udp=True),
    "range UDP from two sources": SnippetSpec(INNER, window=len(INNER), sources=2, is_udp=True),
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
#else
    struct sockaddr_in source = {.sin_family = AF_INET}, target = source, own;
    target.sin_port = htons(39999);
    inet_pton(AF_INET, "127.0.2.1", &source.sin_addr);
    inet_pton(AF_INET, "127.9.9.2", &target.sin_addr);
#endif
    for (int i = 0; i < NUMBER; i++) {
#if FROM_SOURCE
        int fd = connect_from((struct sockaddr *)&source, (struct sockaddr *)&target, sizeof source);
#else
        int fd = connect_from((struct sockaddr *)&target, sizeof source);
#endif
        socklen_t size = sizeof own;
        if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &size) != 0)
            return 1;
        char text[INET6_ADDRSTRLEN];
#if SIX
        inet_ntop(AF_INET6, &own.sin6_addr, text, sizeof text);
#else
        inet_ntop(AF_INET, &own.sin_addr, text, sizeof text);
#endif
        printf("%s[\\"%s\\", %d]", i ? ", " : "[", text, ntohs(((struct sockaddr_in *)&own)->sin_port));
    }
    puts("]");
    (void)source;
    return 0;
}
"""
C_FOREIGN = """
#include <arpa/inet.h>
#include <stdio.h>
static int calls;
int counted_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    calls++;
    return (bind)(fd, address, size);
}
int main(void)
{
    struct sockaddr_in source = {.sin_family = AF_INET}, target = source;
    target.sin_port = htons(39999);
    inet_pton(AF_INET, "192.0.2.1", &source.sin_addr);
    inet_pton(AF_INET, "127.9.9.2", &target.sin_addr);
    int fd = connect_from((struct sockaddr *)&source, (struct sockaddr *)&target, sizeof source);
    printf("[[\\"%s\\", %d]]", fd < 0 && errno == EADDRNOTAVAIL ? "EADDRNOTAVAIL" : "another end", calls);
    return 0;
}
"""

GO = program("go") or ""
GO_MAIN = f"""
func main() {{
	_ = net.ParseIP("127.0.2.1")
	held := make([]net.Conn, {NUMBER})
	for i := range held {{
		conn, err := dial(SOURCE"127.9.9.2:39999")
		if err != nil {{
			panic(err)
		}}
		held[i] = conn
		host, port, _ := net.SplitHostPort(conn.LocalAddr().String())
		fmt.Printf("%s[%q, %s]", map[bool]string{{true: "[", false: ", "}}[i == 0], host, port)
	}}
	fmt.Println("]")
}}
"""


def ways() -> list[Any]:
    """Those that this kernel has the option for."""
    lacks = pytest.mark.skipif(not is_supported(LOCAL_PORT_RANGE), reason="this kernel has no IP_LOCAL_PORT_RANGE")
    return [pytest.param(spec, id=name, marks=[lacks] if spec.window else []) for name, spec in SPECS.items()]


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


def check(spec: SnippetSpec, ends: list[tuple[str, int]], sources: int, address: str = "127.0.0.1") -> None:
    """As many connections as were asked for, from the addresses and ports that were meant."""
    assert len(set(ends)) == NUMBER
    assert all(port in spec.ports for _, port in ends)
    assert {host for host, _ in ends} == (
        {f"127.0.2.{i + 1}" for i in range(sources)} if spec.takes_turns else {address}
    )
    if spec.window is not None and sources == 1:
        assert {port for _, port in ends} == set(range(INNER.low, INNER.high + 1))  # as many as it has, so all of them


@pytest.mark.parametrize("spec", ways())
def test_python_connects(spec: SnippetSpec) -> None:
    """From each source in turn, with a port of the range; windows and random ports draw again when one is taken."""
    code = snippets(spec)["Python"].replace("192.0.2.", "127.0.2.")
    check(spec, run(sys.executable, "-c", code + PYTHON_MAIN), spec.sources)


def compiled(spec: SnippetSpec, folder: Path, *flags: str, main: str = C_MAIN) -> str:
    """The program that C's code makes."""
    source, binary = folder / "main.c", folder / "main"
    source.write_text(snippets(spec)["C"] + main, encoding="ascii")
    warnings = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
    values = (f"-DNUMBER={NUMBER}", f"-DFROM_SOURCE={int(spec.takes_turns)}")
    subprocess.run([require("cc"), *warnings, *values, *flags, "-o", binary, source], check=True)
    return str(binary)


@pytest.mark.parametrize("spec", ways())
def test_c_connects(spec: SnippetSpec, tmp_path: Path) -> None:
    """It compiles without a warning, and connects as Python's does."""
    check(spec, run(compiled(spec, tmp_path)), 1)


@pytest.mark.skipif(not has_ipv6(), reason="this kernel has no IPv6, or it is switched off")
@pytest.mark.parametrize("spec", [spec for spec in ways() if "sources" not in str(spec.id)])
def test_code_connects_over_ipv6(spec: SnippetSpec, tmp_path: Path) -> None:
    """The same code to a target of IPv6: the options are where those of IPv4 are."""
    python = snippets(spec)["Python"] + PYTHON_MAIN.replace("127.9.9.2", "::1")
    check(spec, run(sys.executable, "-c", python, target=TARGET6), 1, "::1")
    check(spec, run(compiled(spec, tmp_path, "-DSIX=1"), target=TARGET6), 1, "::1")


RETRYING = {name: replace(spec, sources=2) for name, spec in SPECS.items() if spec.tries > 1 and not spec.is_udp}


@pytest.mark.parametrize("spec", RETRYING.values(), ids=list(RETRYING))
def test_python_gives_up_an_address_of_another_host(spec: SnippetSpec) -> None:
    """bind() says EADDRNOTAVAIL as connect() does, and no further try would change that: there is one."""
    counting = """
import json
bind, calls = socket.socket.bind, []
socket.socket.bind = lambda self, address: (calls.append(address), bind(self, address))
try:
    connect(("127.9.9.2", 39999))
except OSError as error:
    print(json.dumps([[errno.errorcode[error.errno], len(calls)]]))
"""
    assert run(sys.executable, "-c", snippets(spec)["Python"] + counting) == [("EADDRNOTAVAIL", 1)]


@pytest.mark.parametrize("spec", RETRYING.values(), ids=list(RETRYING))
def test_c_gives_up_an_address_of_another_host(spec: SnippetSpec, tmp_path: Path) -> None:
    """The same: one bind()."""
    counted = "#include <sys/socket.h>\n#define bind(...) counted_bind(__VA_ARGS__)\n"
    declared = "int counted_bind(int, const struct sockaddr *, socklen_t);\n"
    header = tmp_path / "counted.h"
    header.write_text(counted + declared, encoding="ascii")
    binary = compiled(spec, tmp_path, "-include", str(header), main=C_FOREIGN)
    assert run(binary) == [("EADDRNOTAVAIL", 1)]


def test_c_draws_anew_in_every_process(tmp_path: Path) -> None:
    """Two processes that drew the same ports would go through all that the other has taken before them."""
    binary = compiled(SPECS["random"], tmp_path)
    assert run(binary) != run(binary)


@pytest.mark.parametrize("sources", [2, 3, 7])
def test_nginx_takes_the_sources(sources: int, tmp_path: Path) -> None:
    """`nginx -t` finds nothing wrong with it; only the kernel's own search has it, for nginx knows no port range."""
    nginx = require("nginx")
    code = snippets(SnippetSpec(PORTS, sources=sources))["nginx"]
    assert code.count("192.0.2.") == sources
    outer, _, inner = code.rpartition("# next to proxy_pass:\n")
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
    lines = snippets(SnippetSpec(PORTS, sources=sources))["nginx"].splitlines()
    pairs = [line.split() for line in lines if line.startswith("    ")]
    assert len({address for _, address in pairs}) == sources
    shares = [float(share.rstrip("%")) for share, _ in pairs if share != "*"]
    shares.append(100 - sum(shares))
    assert max(shares) - min(shares) < 0.0101


def go_program(spec: SnippetSpec, folder: Path, environment: dict[str, str], main: str = GO_MAIN) -> str:
    """The program that Go's code makes, looked over by `go vet`."""
    source, binary = folder / "main.go", folder / "main"
    code = snippets(spec)["Go"].replace("import (\n", 'import (\n\t"fmt"\n')
    given = 'net.ParseIP("127.0.2.1"), ' if spec.takes_turns else ""
    source.write_text("package main\n\n" + code + main.replace("SOURCE", given), encoding="ascii")
    subprocess.run([GO, "vet", source], check=True, env=environment)
    subprocess.run([GO, "build", "-o", binary, source], check=True, env=environment)
    return str(binary)


def compiled_ways() -> list[Any]:
    """The same, of which all but three are slow: the compiler takes a second for each."""
    kept, others = ways()[::5], [one for one in ways() if one not in ways()[::5]]
    return [*kept, *(pytest.param(*one.values, id=one.id, marks=[*one.marks, pytest.mark.slow]) for one in others)]


@pytest.mark.parametrize("spec", compiled_ways())
@needs("go")
def test_go_connects(spec: SnippetSpec, tmp_path: Path, go_environment: dict[str, str]) -> None:
    """`go vet` finds nothing in it, and it connects as Python's does."""
    check(spec, run(go_program(spec, tmp_path, go_environment)), 1)


@pytest.mark.parametrize("spec", RETRYING.values(), ids=list(RETRYING))
@needs("go")
def test_go_gives_up_an_address_of_another_host(
    spec: SnippetSpec, tmp_path: Path, go_environment: dict[str, str]
) -> None:
    """Bind's EADDRNOTAVAIL ends it: with tries without an end it would never come back."""
    main = """
func main() {
	_, err := dial(net.ParseIP("192.0.2.1"), "127.9.9.2:39999")
	fmt.Printf("[[%q, %d]]", err, 1)
}
"""
    endless = replace(spec, tries=2**31 - 1)
    [(error, _)] = run(go_program(endless, tmp_path, go_environment, main))
    assert "bind: cannot assign requested address" in error


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
@needs("go")
@pytest.mark.slow  # Go compiles its library for that machine first
def test_go_builds_where_int_has_32_bits(spec: SnippetSpec, tmp_path: Path, go_environment: dict[str, str]) -> None:
    """65535<<16 is no constant that such an int takes, and no value that it must not overflow to."""
    source = tmp_path / "dial.go"
    wide = replace(spec, ports=PortRange(1024, 65535), window=64_512 if spec.is_whole else spec.window)
    source.write_text("package main\n\n" + snippets(wide)["Go"] + "\nfunc main() { _ = dial }\n", encoding="ascii")
    command = [GO, "build", "-o", str(tmp_path / "dial"), str(source)]
    subprocess.run(command, check=True, env=go_environment | {"GOARCH": "386"})


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_go_is_of_one_piece(spec: SnippetSpec, tmp_path: Path) -> None:
    """Every brace and parenthesis is closed, no placeholder is left; gofmt parses it where there is one."""
    code = snippets(spec)["Go"]
    assert "$" not in code
    for opening, closing in ("()", "{}"):
        assert code.count(opening) == code.count(closing)
    assert ('"math/rand"' in code) == ("rand." in code)
    assert all(f"{name}." in code.partition(")\n")[2] for name in ("os", "errors", "syscall") if f'"{name}"' in code)
    if gofmt := shutil.which("gofmt"):
        path = tmp_path / "dial.go"
        path.write_text("package main\n\n" + code, encoding="ascii")
        done = subprocess.run([gofmt, "-l", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_python_imports_what_it_uses(spec: SnippetSpec) -> None:
    """Ruff finds no import too many, no name unknown, and nothing that does not parse."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("needs ruff")
    words = ("check", "--isolated", "--select", "F,E9,E4", "-")
    code = snippets(spec)["Python"]
    done = subprocess.run([ruff, *words], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert max(map(len, code.splitlines())) <= 100


@pytest.mark.parametrize("spec", [spec for spec in SPECS.values() if not spec.is_udp])
def test_haproxy_takes_the_ports(spec: SnippetSpec, tmp_path: Path) -> None:
    """`haproxy -c` finds nothing wrong with it; a server line a source, each with the ports that it may go through."""
    code = snippets(replace(spec, listed=INNER))["haproxy"]
    assert code.count(f":{INNER}\n") == spec.sources
    haproxy = require("haproxy")
    configuration = tmp_path / "haproxy.cfg"
    frontend = f"\nfrontend f\n    bind unix@{tmp_path}/socket\n    default_backend b\n"
    timeouts = "    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n"
    configuration.write_text(f"defaults\n    mode tcp\n{timeouts}{frontend}\nbackend b\n{code}", encoding="ascii")
    done = subprocess.run([haproxy, "-c", "-f", configuration], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_neither_proxy_speaks_udp() -> None:
    """Nginx and haproxy have no code for it; nginx has none for one source, which the kernel chooses."""
    assert set(snippets(SPECS["UDP"])) == {"Python", "C", "Go"}
    assert set(snippets(SnippetSpec(PORTS))) == {"Python", "C", "Go", "haproxy"}
    assert set(snippets(SPECS["bind from two sources"])) == {"Python", "C", "Go", "nginx", "haproxy"}
