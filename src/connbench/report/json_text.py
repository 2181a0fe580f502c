"""A document as JSON text: of every command that prints one for programs."""

from __future__ import annotations

import orjson

from connbench.findings import harmless_json


def json_text(document: object, *, indented: bool = False) -> str:
    """One line, or an indented text, with a line break at its end; numpy's arrays and dataclasses are taken too.

    No word of a file in it steers a terminal or commands a CI runner, and none is changed: it has JSON's escapes.
    """
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return harmless_json(orjson.dumps(document, option=options | (orjson.OPT_INDENT_2 if indented else 0)).decode())
