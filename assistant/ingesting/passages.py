"""Cuts a parsed document into passages that the embedding model reads whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from assistant.domain.documents import Document, ParsedDocument, Passage, Section, Span, embedding_input
from assistant.domain.errors import ConfigurationError, DocumentInvalidError

_WORD = re.compile(r"\w+|[^\w\s]")
MOST_CACHED_WORDS = 200_000
LEAST_TEXT_SHARE = 0.25
"""Title and heading may take the rest of a passage's tokens; over that the heading gives way, then the
document is refused."""


class TokenCounts:
    """Counts with the embedding model's own tokenizer, special tokens included. For one thread at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._word_tokens: dict[str, int] = {}

    @classmethod
    def load(cls, tokenizer_json: Path) -> TokenCounts:
        """Raises ConfigurationError when the file is missing or not a tokenizer."""
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_json))
        except Exception as error:  # noqa: BLE001 (the binding raises nothing narrower)
            raise ConfigurationError(
                f"{tokenizer_json}: the embedding model's tokenizer cannot be read: {error};"
                " start the embedding endpoint once, which writes it."
            ) from None
        tokenizer.no_truncation()  # as shipped it cuts at 128 tokens, silently
        tokenizer.no_padding()
        return cls(tokenizer)

    def exact(self, texts: list[str]) -> list[int]:
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(texts)]

    def estimate(self, text: str) -> int:
        """Return the sum over words, special tokens not added: five times as fast, and exact for a
        tokenizer that splits on white space and punctuation first, as BERT's does."""
        return sum(self._tokens_of(word) for word in _WORD.findall(text))

    def _tokens_of(self, word: str) -> int:
        count = self._word_tokens.get(word)
        if count is None:
            if len(self._word_tokens) >= MOST_CACHED_WORDS:
                self._word_tokens.clear()
            count = len(self._tokenizer.encode(word, add_special_tokens=False))
            self._word_tokens[word] = count
        return count


@dataclass(frozen=True, slots=True)
class _Piece:
    heading: str
    text: str
    start: int


class PassageCutter:
    """Cuts on the widest border that fits: blank lines, lines, sentences, words; never over the limit."""

    def __init__(self, counts: TokenCounts, *, max_tokens: int) -> None:
        self._counts = counts
        self._max_tokens = max_tokens

    def cut(
        self, document: Document, parsed: ParsedDocument, *, content_hash: str, updated_at: datetime
    ) -> tuple[Passage, ...]:
        """Return all of the text in passages; ``embedding_input`` of none is over the limit.

        Raises DocumentInvalidError when the title leaves no room for text.
        """
        pieces = [
            piece for section in parsed.sections for piece in self._pieces(document.title, section, parsed)
        ]
        inputs = [embedding_input(title=document.title, heading=p.heading, text=p.text) for p in pieces]
        return tuple(
            Passage(
                passage_id=f"{document.document_id}#{ordinal}",
                document_id=document.document_id,
                content_hash=content_hash,
                ordinal=ordinal,
                title=document.title,
                heading=piece.heading,
                text=piece.text,
                span=Span(piece.start, piece.start + len(piece.text)),
                token_count=token_count,
                source=document.source,
                type=document.type,
                url=document.url,
                updated_at=updated_at,
                labels=document.labels,
            )
            for ordinal, (piece, token_count) in enumerate(
                zip(pieces, self._counts.exact(inputs), strict=True)
            )
        )

    def _pieces(self, title: str, section: Section, parsed: ParsedDocument) -> Iterator[_Piece]:
        text = parsed.text[section.span.start : section.span.end]
        heading, taken = self._heading(title, section.headings)
        chunks = TextSplitter.from_callback(self._counts.estimate, self._max_tokens - taken).chunk_indices(
            text
        )
        if any(self._is_over(title, heading, chunk) for _, chunk in chunks):
            chunks = self._cut_exactly(title, heading, text)
        for offset, chunk in chunks:
            yield _Piece(heading=heading, text=chunk, start=section.span.start + offset)

    def _heading(self, title: str, headings: tuple[str, ...]) -> tuple[str, int]:
        """Return the heading that is embedded, and the tokens of title, heading and special tokens."""
        path = headings[1:] if headings and headings[0].casefold() == title.casefold() else headings
        most = self._max_tokens - int(self._max_tokens * LEAST_TEXT_SHARE)
        for kept in (path, path[-1:], ()):
            heading = " > ".join(kept)
            (taken,) = self._counts.exact([embedding_input(title=title, heading=heading, text="")])
            if taken <= most:
                return heading, taken
        raise DocumentInvalidError(
            f"The title takes {taken} of the {self._max_tokens} tokens that the embedding model reads;"
            f" shorten it to {most} or fewer."
        )

    def _is_over(self, title: str, heading: str, chunk: str) -> bool:
        return self._exact_one(title, heading, chunk) > self._max_tokens

    def _exact_one(self, title: str, heading: str, chunk: str) -> int:
        return self._counts.exact([embedding_input(title=title, heading=heading, text=chunk)])[0]

    def _cut_exactly(self, title: str, heading: str, text: str) -> list[tuple[int, str]]:
        splitter = TextSplitter.from_callback(
            lambda chunk: self._exact_one(title, heading, chunk), self._max_tokens
        )
        chunks = splitter.chunk_indices(text)
        if any(self._is_over(title, heading, chunk) for _, chunk in chunks):
            raise DocumentInvalidError("A single character is over the embedding model's limit of tokens.")
        return chunks
