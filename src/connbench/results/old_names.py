"""The names that keys of JSON results and columns of CSV results had in earlier versions of connbench."""

from __future__ import annotations

RENAMED = {
    "holders": "workers",
    "lane": "client",
    "lanes": "concurrency",
}
"""From the old name to the name of today, in both formats. JSON had the old names up to schema 4."""
