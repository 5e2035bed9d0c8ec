"""From answer events to bytes of a server-sent event stream."""

from __future__ import annotations

import orjson

from assistant.answering.events import AnswerEvent, Token

HEARTBEAT = b": alive\n\n"


class EventEncoder:
    """Encodes the events of one answer; ids are ``<answer_id>:<sequence>``, the sequence from 1."""

    __slots__ = ("_prefix", "_sequence")

    def __init__(self, answer_id: str) -> None:
        self._prefix = b"id: " + answer_id.encode() + b":"
        self._sequence = 0

    def encode(self, event: AnswerEvent) -> bytes:
        self._sequence += 1
        if isinstance(event, Token):  # the hot path: JSON has no raw line end, so one data line suffices
            return b"%s%d\nevent: token\ndata: %s\n\n" % (
                self._prefix,
                self._sequence,
                orjson.dumps({"text": event.text}),
            )
        return b"%s%d\nevent: %s\ndata: %s\n\n" % (
            self._prefix,
            self._sequence,
            event.event.encode(),
            event.model_dump_json().encode(),
        )
