"""The table of a masquerade: the kernel takes its rule, and removes the table with the last copy of its owner."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from allowed_namespace import NAMESPACE
from connbench.errors import EnvironmentFault
from connbench.linux.namespace import enter_new_namespace
from connbench.linux.nftables import masquerade
from connbench.linux.process import in_child
from connbench.model import PortRange

RULES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all": ({}, []),
    "from a device": ({"enters": "connbench"}, ["meta", "cmp"]),
    "to ports by a device": ({"leaves": "out", "ports": PortRange(1000, 1999)}, ["meta", "cmp", *2 * ["immediate"]]),
    "to drawn ports": ({"ports": PortRange(1000, 1999), "is_random": True}, 2 * ["immediate"]),
}
"""Arguments, and the expressions before `masq`."""


def expressions(family: int) -> list[str]:
    """The names of the expressions of all rules in this namespace."""
    from pyroute2.nftables.main import NFTables  # noqa: PLC0415  # in the child

    with NFTables(nfgen_family=socket.AF_INET if family == 4 else socket.AF_INET6) as tables:
        return [
            expression.get_attr("NFTA_EXPR_NAME")
            for rule in tables.get_rules()
            for expression in rule.get_attr("NFTA_RULE_EXPRESSIONS")
        ]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("rule", "names"), RULES.values(), ids=list(RULES))
def test_the_rule_is_gone_with_its_owner(rule: dict[str, Any], names: list[str], family: int) -> None:
    """The rule stands while one copy of the socket is open, and a second owner of the same table is refused."""

    def work() -> list[list[str]]:
        enter_new_namespace(NAMESPACE)
        owner = masquerade(family, **rule)
        copy = os.dup(owner.fileno())
        owner.close()
        found = [expressions(family)]
        with pytest.raises(EnvironmentFault, match="nftables refuses a table with an owner"):
            masquerade(family, **rule)
        os.close(copy)
        return [*found, expressions(family)]

    assert in_child(work, "no masquerade", "") == [[*names, "masq"], []]
