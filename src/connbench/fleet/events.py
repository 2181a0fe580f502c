"""Decodes what agents say: with limits for every value, since any host may send anything."""

from __future__ import annotations

import msgspec

from connbench.fleet.protocol import EVENTS, OneEvent, check_length, no_message

WHO = "its agent"


class _Head(msgspec.Struct):
    event: str


def decode_event(line: bytes) -> OneEvent:
    """The event of a line that a host sent.

    Raises:
        RunFault: No agent of this protocol sends it.
    """
    check_length(line, WHO)
    try:
        word = msgspec.json.decode(line, type=_Head).event
        if word not in EVENTS:
            raise msgspec.ValidationError("no event of this protocol")  # as if msgspec knew the words
        return msgspec.json.decode(line, type=EVENTS[word])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise no_message(line, WHO, str(error)) from error
