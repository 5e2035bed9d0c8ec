"""Requests to the parsing process, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable

from assistant.documents.files import SourceDocument, read_item
from assistant.documents.parsing_process import ParsingRequest
from assistant.domain.errors import ParsingStoppedError

GOOD = b"# Refill\n\nWait until day 24.\n"


def page(body: bytes = GOOD, name: str = "a.md") -> ParsingRequest:
    return ParsingRequest(operation="page", header={"name": name, "is_markdown": True}, body=body)


def line(body: bytes) -> ParsingRequest:
    return ParsingRequest(operation="line", header={"name": "a.jsonl:1"}, body=body)


def titles_of(answered: Iterable[bytes | ParsingStoppedError]) -> list[str]:
    """Return the title of each document, or the reason of its failure."""
    titles: list[str] = []
    for answer in answered:
        if isinstance(answer, ParsingStoppedError):
            titles.append(answer.message)
        else:
            item = read_item(answer)
            assert isinstance(item, SourceDocument)
            titles.append(item.document.title)
    return titles
