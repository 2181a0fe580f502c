"""The names that earlier versions of connbench gave to keys of JSON results and to columns of CSV results."""

from __future__ import annotations

RENAMED = {
    "holders": "workers",
    "lane": "client",
    "lanes": "concurrency",
}
"""Old name to today's, the same in both formats; JSON has the old names up to schema 4."""
