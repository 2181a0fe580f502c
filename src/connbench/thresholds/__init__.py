"""Thresholds as they are written: metrics, units, grammar. `connbench.analysis.gate` holds results to them."""

from connbench.thresholds.expression import (
    Expression,
    Limit,
    Multiple,
    Operator,
    Slower,
    Threshold,
    concerns,
    format_number,
    refuse_strangers,
)
from connbench.thresholds.metrics import METRICS, Dimension, Metric
from connbench.thresholds.parser import parse

__all__ = [
    "METRICS",
    "Dimension",
    "Expression",
    "Limit",
    "Metric",
    "Multiple",
    "Operator",
    "Slower",
    "Threshold",
    "concerns",
    "format_number",
    "parse",
    "refuse_strangers",
]
