"""Port ranges, endpoints, strategies with their loads, and the plans of a run and of a round.

Everything here is frozen and made of plain values, so that JSON can hold it: the engine is another process.
"""

from connbench.model.addresses import (
    DEFAULT_RANGE_LOW,
    DEFAULT_SOURCES,
    MAX_JSON_INTEGER,
    MAX_PORT,
    MOST_SOURCES,
    Endpoint,
    PortRange,
    check_not_mapped,
    check_one_family,
    first_sources,
    format_ports,
    ip_version,
    is_of_many,
    is_of_one,
    parse_ports,
    port_range_value,
)
from connbench.model.choices import (
    Clock,
    Close,
    Isolation,
    Link,
    Listener,
    Loop,
    Namespace,
    Phase,
    Placement,
    Protocol,
    Spread,
)
from connbench.model.knee_rule import can_show_half, fewest_to_show_half
from connbench.model.load import LOAD_FIELDS, MOST_ROWS, NO_LOAD, Churn, Load, Profile
from connbench.model.plan import DRAWS, Plan, RoundPlan, format_addresses
from connbench.model.strategy import HALF, StrategySpec

__all__ = [
    "DEFAULT_RANGE_LOW",
    "DEFAULT_SOURCES",
    "DRAWS",
    "HALF",
    "LOAD_FIELDS",
    "MAX_JSON_INTEGER",
    "MAX_PORT",
    "MOST_ROWS",
    "MOST_SOURCES",
    "NO_LOAD",
    "Churn",
    "Clock",
    "Close",
    "Endpoint",
    "Isolation",
    "Link",
    "Listener",
    "Load",
    "Loop",
    "Namespace",
    "Phase",
    "Placement",
    "Plan",
    "PortRange",
    "Profile",
    "Protocol",
    "RoundPlan",
    "Spread",
    "StrategySpec",
    "can_show_half",
    "check_not_mapped",
    "check_one_family",
    "fewest_to_show_half",
    "first_sources",
    "format_addresses",
    "format_ports",
    "ip_version",
    "is_of_many",
    "is_of_one",
    "parse_ports",
    "port_range_value",
]
