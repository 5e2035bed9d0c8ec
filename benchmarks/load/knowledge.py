"""What the stand-ins' knowledge base holds: pieces of the pharmacy's documents, parsed as the worker does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.domain.documents import Document, DocumentState, DocumentStatus, StoredDocument
from assistant.knowledge.parsing import parse_document
from assistant.knowledge.passages import PassageCutter, TokenCounts, build_card
from assistant.text.language import language

KNOWLEDGE = Path(__file__).parents[2] / "knowledge" / "pharmacy"
PASSAGE_WORDS = 150
READ_DOCUMENTS = 4
"""Documents that every search ranks first, and that the product therefore reads."""
TITLE = "Prior authorization denied, refill too soon, package damaged in delivery"
AT = datetime(2026, 1, 1, tzinfo=UTC)
_TOKENS = 512
"""More than a piece has: each document is one passage."""
_PLAIN = re.compile(r"[^A-Za-z0-9 .,'-]+")
_SPACES = re.compile(r"\s+")
_SENTENCE = re.compile(r"[A-Z](?:(?! - | --- |\bext\.)[^:])+[a-z]{3}\.")


@cache
def passages() -> Sequence[str]:
    """Return the pharmacy's Markdown documents in pieces of 150 words, those with most sentences first."""
    pieces: list[str] = []
    for path in sorted(KNOWLEDGE.glob("*.md")):
        words = _SPACES.sub(" ", _PLAIN.sub(" ", path.read_text(encoding="utf-8"))).split()
        pieces += [
            " ".join(words[start : start + PASSAGE_WORDS])
            for start in range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)
        ]
    return tuple(sorted(pieces, key=lambda piece: -len(_sentences_of(piece))))


@cache
def document(number: int) -> StoredDocument:
    """Return a document of one passage, as an index has it."""
    return _indexed(made_document(number))


def made_document(number: int) -> Document:
    """Return a document of one passage. Its title is about what every question asks."""
    return Document(
        document_id=f"document-{number}",
        title=TITLE,
        content=passages()[number % len(passages())],
        media_type="text/plain",
        source="pharmacy",
        type="article",
    )


def live_status(number: int) -> DocumentStatus:
    made = made_document(number)
    content_hash = made.content_hash()
    return DocumentStatus(
        document_id=made.document_id,
        title=made.title,
        state=DocumentState.LIVE,
        content_hash=content_hash,
        live_content_hash=content_hash,
        received_at=AT,
        updated_at=AT,
    )


@cache
def sentences() -> Sequence[str]:
    """Return the whole sentences of the READ_DOCUMENTS documents, without markup, each once."""
    found = [one for number in range(READ_DOCUMENTS) for one in _sentences_of(passages()[number])]
    return tuple(dict.fromkeys(found))


@cache
def _sentences_of(piece: str) -> tuple[str, ...]:
    content = Document(document_id="piece", title=TITLE, content=piece, media_type="text/plain")
    units = (unit.text for unit in parse_document(content).units)
    return tuple(text for text in units if _SENTENCE.fullmatch(text) and 6 <= len(text.split()) <= 25)


def _indexed(made: Document) -> StoredDocument:
    parsed, content_hash = parse_document(made), made.content_hash()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 (a token of text)
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    cutter = PassageCutter(TokenCounts(tokenizer), max_tokens=_TOKENS, language=language("en"))
    return StoredDocument(
        card=build_card(made, parsed, content_hash=content_hash, updated_at=AT),
        passages=tuple(cutter.cut(made, parsed, content_hash=content_hash, updated_at=AT)),
    )
