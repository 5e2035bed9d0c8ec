"""Requests to the parsing process, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable

from assistant.documents.files import SourceDocument, SourceItem, read_items
from assistant.documents.parsing_process import ParsingRequest
from assistant.domain.errors import ParsingStoppedError

GOOD = b"# Refill\n\nWait until day 24.\n"


def page(body: bytes = GOOD, name: str = "a.md") -> ParsingRequest:
    return ParsingRequest(operation="page", header={"name": name, "is_markdown": True}, body=body)


def line(body: bytes) -> ParsingRequest:
    return ParsingRequest(operation="lines", header={"name": "a.jsonl", "first": 1, "sample": ""}, body=body)


def item_of(answer: bytes | ParsingStoppedError) -> SourceItem:
    """Return the one item of an answer."""
    items = read_items(answer)
    assert not isinstance(items, ParsingStoppedError)
    (item,) = items
    return item


def titles_of(answered: Iterable[bytes | ParsingStoppedError]) -> list[str]:
    """Return the title of each document, or the reason of its failure."""
    titles: list[str] = []
    for answer in answered:
        if isinstance(answer, ParsingStoppedError):
            titles.append(answer.message)
        else:
            item = item_of(answer)
            assert isinstance(item, SourceDocument)
            titles.append(item.document.title)
    return titles
