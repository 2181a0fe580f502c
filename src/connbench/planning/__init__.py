"""From what was asked for to a `Plan`: defaults filled in, and everything checked that can be checked beforehand."""

from connbench.planning.choice import only_supported
from connbench.planning.make import make_plan
from connbench.planning.request import CpuChoice, Request
from connbench.planning.sources import first_sources

__all__ = ["CpuChoice", "Request", "first_sources", "make_plan", "only_supported"]
