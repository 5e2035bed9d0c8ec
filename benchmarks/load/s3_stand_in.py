"""S3's answers to the document store: a reader who comes back gets the texts of the answer from there."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import asdict
from functools import cache

import orjson

from assistant.knowledge.parsing import parse_document
from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.knowledge import made_document
from benchmarks.load.pacing import Pace

_DOCUMENTS = 1_000
"""More than any search finds."""
_KEY = re.compile(r"/([0-9a-f]{64})/(document|parsed)")
_NONE = b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"


class S3StandIn:
    """Gives the canonical document, or its parsed text, of each document that the searches find."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def answer(self, request: Request, connection: HttpConnection) -> None:
        self._pace.later(self._pace.store_s, connection.send, self._found(request))

    def _found(self, request: Request) -> bytes:
        key = _KEY.search(request.path)
        number = _numbers().get(key[1]) if key is not None else None
        if key is None or number is None:
            return response(_NONE, status="404 Not Found", kind="application/xml")
        return _object(number, parsed=key[2] == "parsed")


@cache
def _numbers() -> dict[str, int]:
    ids = (f"document-{number}" for number in range(_DOCUMENTS))
    return {hashlib.sha256(name.encode()).hexdigest(): number for number, name in enumerate(ids)}


@cache
def _object(number: int, *, parsed: bool) -> bytes:
    made = made_document(number)
    content = orjson.dumps(asdict(parse_document(made)) if parsed else made.model_dump(mode="json"))
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return response(content, more=f"x-amz-checksum-sha256: {checksum}\r\n")
