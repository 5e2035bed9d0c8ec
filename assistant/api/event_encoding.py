"""From answer events to bytes of a server-sent event stream, and back for what a log has kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from pydantic import BaseModel

from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token

HEARTBEAT = b": alive\n\n"
_MODELS: dict[str, type[BaseModel]] = {
    kind.event: kind for kind in (Started, Sources, SentenceEnded, Done, Problem)
}


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event as its owner encoded it: passed on as it is, so that an older reader need not know it."""

    frame: bytes


class EventEncoder:
    """Encodes the events of one answer; ids are ``<answer_id>:<sequence>``, the sequence from 1."""

    __slots__ = ("_prefix",)

    def __init__(self, answer_id: str) -> None:
        self._prefix = b"id: " + answer_id.encode() + b":"

    def encode_all(self, numbered: Sequence[tuple[int, AnswerEvent | EncodedEvent]]) -> bytes:
        """Return the frames of several events; nothing for none."""
        return b"".join([self.encode(sequence, event) for sequence, event in numbered])

    def encode(self, sequence: int, event: AnswerEvent | EncodedEvent) -> bytes:
        """Return the frame. Sequence 0 has no id: the event is of this connection, not of the answer."""
        if isinstance(event, Token):  # the hot path: JSON has no raw line end, so one data line suffices
            return b"%s%d\nevent: token\ndata: %s\n\n" % (
                self._prefix,
                sequence,
                orjson.dumps({"text": event.text}),
            )
        if isinstance(event, EncodedEvent):
            return event.frame
        body = b"event: %s\ndata: %s\n\n" % (event.event.encode(), event.model_dump_json().encode())
        return b"%s%d\n%s" % (self._prefix, sequence, body) if sequence else body


def decode_event(frame: bytes) -> AnswerEvent | None:
    """Return the event of a frame that ``EventEncoder`` made, without fields that a newer release added; None
    for a kind that is not known here."""
    fields = dict(line.split(b": ", 1) for line in frame.rstrip(b"\n").split(b"\n"))
    name, data = fields[b"event"].decode(), fields[b"data"]
    if name == Token.event:
        return Token(orjson.loads(data)["text"])
    model = _MODELS.get(name)
    return None if model is None else model.model_validate_json(data, extra="ignore")  # pyright: ignore[reportReturnType]
