"""A hint leads on: who follows it gets a plan, or a fault of another kind, and never the same fault again."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import pytest

from allowed_namespace import NAMESPACE, REASON
from connbench.commands.run import command
from connbench.errors import ConnbenchError
from connbench.linux import veth
from connbench.planner import namespaces
from connbench.planner.planner import make_plan
from connbench.planner.request import RunRequest

pytestmark = pytest.mark.skipif(not NAMESPACE.is_own, reason="no network namespace allowed here")


@pytest.fixture(autouse=True)
def _machine_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine allows does not change between two requests: each question starts a child process."""
    monkeypatch.setattr(namespaces, "best_namespace", lambda: (NAMESPACE, REASON))
    monkeypatch.setattr(veth, "check_can_link", CHECK_LINK)


CHECK_LINK = cache(veth.check_can_link)

Arguments = dict[str, str]
"""The request, by option: each once."""

DEEPEST = 6
FLAGS = {"--allow-remote", "--allow-host-route"}


@dataclass(frozen=True)
class Fault:
    """An error as a user reads it."""

    message: str
    hint: str


def fault_of(arguments: Arguments) -> Fault | None:
    """The refusal of a request; None if there is a plan for it."""
    return _fault_of(tuple(sorted(arguments.items())))


@cache
def _fault_of(arguments: tuple[tuple[str, str], ...]) -> Fault | None:
    words = [word for name, value in arguments for word in ([name] if name in FLAGS else [name, value])]
    try:
        asked = command.make_context("run", words).params
        for other in ("output", "output_format", "thresholds", "force", "quiet", "plot", "page"):
            asked.pop(other, None)
        make_plan(RunRequest(**asked))
    except ConnbenchError as error:
        return Fault(error.message, error.hint)
    return None


def followed(arguments: Arguments, fault: Fault) -> Iterator[Arguments]:
    """The next requests of a user who follows a hint literally: one for each thing that it proposes."""
    named = re.findall(r"--?[a-z][\w-]*", fault.message)
    for proposal in re.split(r"; or |, or |; ", fault.hint):
        if re.search(r"leave (it|one|one of them) out", proposal):
            for name in named if "one" in proposal else named[:1]:
                yield {key: value for key, value in arguments.items() if key != name}
        if out := re.search(r"leave out (--[\w-]+)(?: \w+)?(?: and (--[\w-]+))?", proposal):
            yield {key: value for key, value in arguments.items() if key not in out.groups()}
        if given := re.search(r"(?:add|use|give|as in) (--[\w-]+)(?: ([a-z]+))?", proposal):
            name, value = given.groups()
            if name in FLAGS or value not in {None, "of"}:
                yield arguments | {name: value or ""}


def circles(arguments: Arguments, met: tuple[Fault, ...] = ()) -> Iterator[tuple[Fault, ...]]:
    """The chains of hints that lead back to an earlier fault."""
    fault = fault_of(arguments)
    if fault is None:
        return
    if fault in met or len(met) == DEEPEST:
        yield (*met, fault)
        return
    for changed in followed(arguments, fault):
        if changed != arguments:
            yield from circles(changed, (*met, fault))


@pytest.fixture(scope="module")
def listening() -> Iterator[str]:
    """A target of this host."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


FAR = "0.0.0.1:80"
"""Not on this host; nothing is sent: the kernel has no route to network 0."""

CHURN = {"--fill": "50%", "--churn": "10"}

BAD: list[Arguments] = [
    {"--target": "LISTENING", "--port-range": "20000-20999"},
    {"--target": "LISTENING", "--port-range": "20000-20999", "--strategy": "window"},
    {"--target": "LISTENING", "--isolate": "always"},
    {"--target": FAR, "--isolate": "always", "--protocol": "udp", "--allow-remote": ""},
    {"--target": FAR, "--isolate": "always", "--timeout": "0.05"},
    {"--target": "LISTENING", "--isolate": "always", "--close": "fin", **CHURN},
    {"--target": "127.0.0.1:1"},
    {"--target": "127.0.0.1:1", "--close": "fin", **CHURN},
    {"--target": "LISTENING", "--link": "veth"},
    {"--target": "LISTENING", "--link": "veth", "--delay": "2"},
    {"--target": FAR, "--link": "veth", "--protocol": "udp", "--isolate": "never"},
    {"--link": "veth", "--isolate": "never"},
    {"--link": "veth", "--isolate": "never", "--delay": "2"},
    {"--delay": "2"},
    {"--link": "veth", "--delay": "7000"},
    {"--isolate": "never", "--port-range": "20000-20999"},
    {"--isolate": "never", "--port-range": "20000-20999", "--strategy": "window"},
    {"--isolate": "never", "--listener": "backlog", "-n": "5000"},
    {"--isolate": "never", "--listener": "backlog", "--fill": "50%"},
    {"--listener": "backlog", "--close": "fin", **CHURN},
    {"--listener": "backlog", "--protocol": "udp"},
    {"--close": "fin", "--protocol": "udp", **CHURN},
    {"--close": "rst", "--protocol": "udp", **CHURN},
    {"--close": "fin"},
    {"--churn-rate": "5"},
    {"-n": "10", "--fill": "50%"},
    {"-n": "2", "--concurrency": "4"},
    {"--fill": "50%", "--port-range": "20000-20001", "--concurrency": "4"},
    {"--source": "127.0.0.1"},
    {"--source": "127.0.0.1:80"},
    {"--source": "[::1]:80", "--strategy": "plain"},
    {"--source": "localhost"},
    {"--source": "192.0.2.1", "--strategy": "bind"},
    {"--source": "127.0.0.1", "--family": "6", "--strategy": "bind"},
    {"--source": "::1", "--target": "LISTENING", "--strategy": "bind"},
    {"--source": "127.0.0.1", "--sources": "2", "--strategy": "bind"},
    {"--sources": "2"},
    {"--sources": "5000"},
    {"--source": "127.0.0.1", "--link": "veth", "--strategy": "bind"},
    {"--source": "198.19.0.1", "--link": "veth", "--strategy": "bind"},
    {"--target": "127.9.9.2:80", "--listener": "backlog", "--link": "veth"},
    {"--target": "198.18.0.1:80", "--listener": "backlog", "--link": "veth"},
    {"--window": "50", "--strategy": "plain"},
    {"--placement": "clipped", "--strategy": "plain"},
    {"--retries": "5", "--strategy": "range"},
    {"--target": FAR, "--port-range": "20000-20999", "--allow-remote": ""},
    {"--target": FAR, "--allow-host-route": "", "--isolate": "never", "--allow-remote": ""},
    {"--target": FAR, "--link": "routed", "--allow-remote": ""},
    {"--target": "LISTENING", "--allow-host-route": ""},
    {"--allow-host-route": ""},
    {"--allow-host-route": "", "--link": "veth"},
    {"--link": "routed"},
    {"--sysctl": "net.ipv4.tcp_tw_reuse=1", "--isolate": "never"},
    {"--sysctl": "net.ipv4.tcp_tw_reuse=1", "--target": "LISTENING"},
    {"--sysctl": "net.ipv4.ip_local_port_range=1"},
    {"--sysctl": "net.ipv4.tcp_tw_reuse=9"},
    {"--sysctl": "net.core.netdev_budget=9"},
    {"--sysctl": "net.core.somaxconn=9", "--listener": "backlog"},
]


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: " ".join(f"{k} {v}" for k, v in arguments.items()))
def test_no_hint_leads_back_to_a_fault_that_was_met(arguments: Arguments, listening: str) -> None:
    """Each proposal of each hint, followed to its end."""
    asked = {name: value.replace("LISTENING", listening) for name, value in arguments.items()}
    first = fault_of(asked)
    assert first is not None, "nothing is refused"
    assert first.hint
    assert list(circles(asked)) == []


CHOICES: dict[str, tuple[str | None, ...]] = {
    "--target": (None, "LISTENING", FAR),
    "--isolate": (None, "always", "never"),
    "--link": (None, "veth"),
    "--protocol": (None, "udp"),
    "--close": (None, "fin"),
    "--port-range": (None, "20000-20099"),
    "--listener": (None, "backlog", "accept"),
}
USUAL: Arguments = {"--timeout": "0.02", "--allow-remote": "", "--churn": "5", "--fill": "90%", "--strategy": "bind"}


@pytest.mark.parametrize("isolate", CHOICES["--isolate"])
@pytest.mark.parametrize("target", CHOICES["--target"])
def test_no_hint_leads_back_whatever_goes_with_where_it_runs(
    target: str | None, isolate: str | None, listening: str
) -> None:
    """Every combination of the options that say where a run is, over which link, and who listens."""
    others = [name for name in CHOICES if name not in {"--target", "--isolate"}]
    for values in product(*(CHOICES[name] for name in others)):
        asked = dict(zip(others, values, strict=True)) | {"--target": target, "--isolate": isolate}
        given = {name: value.replace("LISTENING", listening) for name, value in asked.items() if value is not None}
        assert list(circles(USUAL | given)) == []


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            BAD[0],
            "--port-range 20000-20999: in the host's namespace plain and bind search the host's ",
            "leave out --port-range; or ",
        ),
        (
            BAD[2],
            "--isolate always cannot reach",
            "leave out --isolate always; or leave out --target, or add --listener",
        ),
        (BAD[3], "--isolate always cannot reach", "leave out --isolate always; or add --allow-host-route"),
        (BAD[5], "--isolate always cannot reach", "add --listener accept"),
        (BAD[12], "--link veth makes namespaces", "leave out --isolate never; or leave out --link veth and --delay"),
        (BAD[15], "--port-range 20000-20999: in the host's", "leave out --port-range; or leave out --isolate never"),
        ({"--source": "127.0.0.1:80"}, "--source '127.0.0.1:80' has a port", "give the address alone, as in 127.0.0.1"),
        (
            {"--source": "127.0.0.1"},
            "--source 127.0.0.1: plain cannot",
            "use a strategy that can, as in --strategy bind",
        ),
        (
            {"--close": "rst", "--protocol": "udp", **CHURN},
            "--close rst: UDP has neither RST nor FIN",
            "leave out --close",
        ),
    ],
)
def test_hint_is_for_the_case_at_hand(arguments: Arguments, message: str, hint: str, listening: str) -> None:
    """A hint proposes nothing that cannot help, as --isolate always with a target, or a strategy for a wrong source."""
    fault = fault_of({name: value.replace("LISTENING", listening) for name, value in arguments.items()})
    assert fault is not None
    assert fault.message.startswith(message)
    assert hint in fault.hint
