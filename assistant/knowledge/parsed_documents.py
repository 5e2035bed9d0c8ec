"""A received document taken apart: its text, passages and card, in this process or in the parsing process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import orjson
from pydantic import TypeAdapter

from assistant.domain.documents import Document, DocumentCard, ParsedDocument, Passage
from assistant.domain.errors import AssistantError, DocumentInvalidError
from assistant.knowledge.cards import build_card
from assistant.knowledge.parsing import parse_document
from assistant.knowledge.parsing_process import Parsing, ParsingRequest
from assistant.knowledge.passages import PassageCutter, TokenCounts
from assistant.text.language import language


@dataclass(frozen=True, slots=True)
class Received:
    """A document as it was received."""

    document: Document
    content_hash: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ParsedParts:
    """What the index needs of a document, but for vectors."""

    parsed: ParsedDocument
    passages: tuple[Passage, ...]
    card: DocumentCard
    titles: tuple[str | None, ...]
    """The title and each question; None where the embedding model cannot read it whole."""


class DocumentParser(Protocol):
    """Takes documents apart. Blocks: for one thread at a time, and never on an event loop."""

    def parse(self, documents: Sequence[Received]) -> Iterator[ParsedParts | AssistantError]:
        """Yield the parts of each document in order, or why it has none.

        Raises LocalRuntimeError when documents cannot be parsed at all.
        """
        ...

    def close(self) -> None: ...


class ParsingHere:
    """In this process: for the parsing process itself, and for documents of our own."""

    def __init__(self, cutter: PassageCutter) -> None:
        self._cutter = cutter

    @classmethod
    def load(cls, tokenizer_json: Path, *, max_tokens: int, language_code: str) -> ParsingHere:
        """Raises ConfigurationError when the file is missing or not a tokenizer."""
        counts = TokenCounts.load(tokenizer_json)
        return cls(PassageCutter(counts, max_tokens=max_tokens, language=language(language_code)))

    def parse(self, documents: Sequence[Received]) -> Iterator[ParsedParts | AssistantError]:
        for received in documents:
            try:
                yield self.parse_one(received)
            except AssistantError as error:
                yield error

    def parse_one(self, received: Received) -> ParsedParts:
        """Raises DocumentInvalidError."""
        document, content_hash, updated_at = received.document, received.content_hash, received.received_at
        parsed = parse_document(document)
        asked = (document.title, *document.questions)
        return ParsedParts(
            parsed=parsed,
            passages=self._cutter.cut(document, parsed, content_hash=content_hash, updated_at=updated_at),
            card=build_card(document, parsed, content_hash=content_hash, updated_at=updated_at),
            titles=tuple(title if self._cutter.fits(title) else None for title in asked),
        )

    def close(self) -> None:
        """There is nothing to close."""


class ParsingApart:
    """In the parsing process, under its limits."""

    def __init__(
        self, parsing: Parsing, *, tokenizer_json: Path, max_tokens: int, language_code: str
    ) -> None:
        self._parsing = parsing
        self._header = {
            "tokenizer": str(tokenizer_json.resolve()),
            "max_tokens": max_tokens,
            "language": language_code,
        }

    def parse(self, documents: Sequence[Received]) -> Iterator[ParsedParts | AssistantError]:
        for answer in self._parsing.run(map(self._request, documents)):
            yield answer if isinstance(answer, AssistantError) else _read(answer)

    def close(self) -> None:
        self._parsing.close()

    def _request(self, received: Received) -> ParsingRequest:
        return ParsingRequest(
            operation="document",
            header={
                **self._header,
                "content_hash": received.content_hash,
                "received_at": received.received_at.isoformat(),
            },
            body=received.document.model_dump_json().encode(),
        )


@dataclass(frozen=True, slots=True)
class ParsingAnswer:
    """What the parsing process says of a document: one of the two."""

    parts: ParsedParts | None = None
    refused: str | None = None


_ANSWER = TypeAdapter(ParsingAnswer)


def write_answer(answer: ParsingAnswer) -> bytes:
    return orjson.dumps(answer)


def _read(body: bytes) -> ParsedParts | AssistantError:
    answer = _ANSWER.validate_json(body)
    return answer.parts if answer.parts is not None else DocumentInvalidError(answer.refused or "")
