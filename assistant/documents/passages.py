"""What the index needs of a document, without vectors: its text, its passages and its card.

The worker calls ``SeparateParser``, which sends each document to a process without rights; there
``parsing_child`` calls ``InProcessParser``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from assistant.documents.parsing import parse_document
from assistant.documents.parsing_process import MALFORMED, Parsing, ParsingRequest, read_answer
from assistant.domain.documents import (
    Document,
    DocumentCard,
    ParsedDocument,
    Passage,
    Section,
    Span,
    Unit,
    UnitKind,
    embedding_input,
)
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DocumentInvalidError,
    ParsingStoppedError,
)
from assistant.text.language import Language, fold, language

MAX_CACHED_WORDS = 200_000
"""Words whose number of tokens ``TokenCounts`` remembers."""
LONGEST_RUN = 1_000
"""Most characters without white space that the splitter gets at once: its work grows with their square."""
LEAST_TEXT_SHARE = 0.25
"""Share of a passage's tokens that title and heading leave to the text. A heading that is too long for it is
shortened; a title that is too long makes the document invalid."""
_HEADING_SEPARATOR = " > "
"""Between the headings of a path: "Fees > First visit"."""
_TOKEN_WORD = re.compile(r"\w+|[^\w\s]")
"""A word or one sign: what BERT's tokenizer separates first."""
_RUN = re.compile(r"\S+")
"""Characters without white space, such as a long address."""

SHORTEST_WORD = 3
LONGEST_WORD = 40
"""A longer word is a code, an address, or words joined without spaces."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")
_SHORT_FORM = re.compile(r"[^\S\n]\(([A-Za-z]{2,6}s?)[),;]")
"""2 to 6 letters in brackets, maybe with a plural "s", alone or before a remark: " (ECG)", " (MRIs, see
below)"."""
_LONGEST_BEFORE = 200
"""Characters before a bracket that are searched for the long form."""
_CLAUSE_END = re.compile(r"[.!?;:]\s|[()\n]")


@dataclass(frozen=True, slots=True)
class Received:
    """A document with the hash of its content and the time when it was received."""

    document: Document
    content_hash: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class ParsedParts:
    """What the index needs of a document, without vectors."""

    parsed: ParsedDocument
    passages: tuple[Passage, ...]
    card: DocumentCard
    titles: tuple[str | None, ...]
    """The title and each question, in order; None for one that exceeds the embedding model's limit."""

    @property
    def texts(self) -> list[str]:
        """The texts to embed: passages, then titles."""
        passages = [passage.embedding_input for passage in self.passages]
        return [*passages, *(title for title in self.titles if title is not None)]


class DocumentParser(Protocol):
    """Parses documents for the worker. It blocks: call it in one thread at a time, and never on an event
    loop."""

    def parse(self, documents: Sequence[Received]) -> Iterator[ParsedParts | AssistantError]:
        """Yield the parts of each document in order, or the error of an invalid document.

        Raises LocalRuntimeError when no document can be parsed.
        """
        ...


class InProcessParser:
    """Parses in this process: the parsing process itself, or tests with their own documents."""

    def __init__(self, cutter: PassageCutter) -> None:
        self._cutter = cutter

    @classmethod
    def load(cls, tokenizer_json: Path, *, max_tokens: int, language_code: str) -> InProcessParser:
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
        """Return the parts of one document. Raises DocumentInvalidError."""
        document, content_hash, updated_at = received.document, received.content_hash, received.received_at
        parsed = parse_document(document)
        passages = self._cutter.cut(document, parsed, content_hash=content_hash, updated_at=updated_at)
        card = build_card(document, parsed, content_hash=content_hash, updated_at=updated_at)
        titles = (document.title, *document.questions)
        fitting = tuple(title if self._cutter.fits(title) else None for title in titles)
        return ParsedParts(parsed=parsed, passages=passages, card=card, titles=fitting)


class SeparateParser:
    """Parses by ``Parsing``, under its limits: in a process without rights, or on AWS in such a function.

    A document that ended the parser, or whose parts are not its own, is a ParsingStoppedError.
    """

    def __init__(
        self, parsing: Parsing, *, tokenizer_json: Path, max_tokens: int, language_code: str
    ) -> None:
        self._parsing = parsing
        limits = {"max_tokens": max_tokens, "language": language_code}
        self._header = limits | {"tokenizer": str(tokenizer_json.resolve())}
        parsing.allow_reading(tokenizer_json.resolve())

    def parse(self, documents: Sequence[Received]) -> Iterator[ParsedParts | AssistantError]:
        answers = self._parsing.run(map(self._request, documents))
        for received, answer in zip(documents, answers, strict=True):
            parts = read_answer(_PARTS_OR_REASON, answer)
            if isinstance(parts, ParsedParts) and not _belong_to(received, parts):
                parts = ParsingStoppedError(MALFORMED)
            yield DocumentInvalidError(parts) if isinstance(parts, str) else parts

    def _request(self, received: Received) -> ParsingRequest:
        """Return the request that ``parsing_child._document`` reads."""
        fields = {"content_hash": received.content_hash, "received_at": received.received_at.isoformat()}
        return ParsingRequest("document", self._header | fields, received.document.model_dump_json().encode())


def _belong_to(received: Received, parts: ParsedParts) -> bool:
    """Return whether the parts have the document's ids, hash, source, labels and original.

    The parser is untrusted: a text that took it over must not get other readers, or overwrite another
    document.
    """
    document, parsed = received.document, parts.parsed
    expected = document.document_id, received.content_hash, document.source, document.labels
    return (
        (parsed.labels, parsed.original) == (document.labels, document.original)
        and all(
            passage.passage_id == f"{document.document_id}#{number}"
            for number, passage in enumerate(parts.passages)
        )
        and all(
            (part.document_id, part.content_hash, part.source, part.labels) == expected
            for part in (parts.card, *parts.passages)
        )
    )


_PARTS_OR_REASON: TypeAdapter[ParsedParts | str] = TypeAdapter(ParsedParts | str)
"""The parsing process's answer: the parts, or why the document is invalid."""


class TokenCounts:
    """Counts tokens with the embedding model's tokenizer. For one thread at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

        def count_word(word: str) -> int:
            return len(tokenizer.encode(word, add_special_tokens=False))

        self._count_word = lru_cache(MAX_CACHED_WORDS)(count_word)

    @classmethod
    def load(cls, tokenizer_json: Path) -> TokenCounts:
        """Raises ConfigurationError when the file is missing or not a tokenizer."""
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_json))
        except Exception as error:  # noqa: BLE001 (the binding raises nothing narrower)
            problem = f"{tokenizer_json}: the embedding model's tokenizer cannot be read: {error}"
            advice = "start the embedding endpoint once, which writes it"
            raise ConfigurationError(f"{problem}; {advice}.") from None
        tokenizer.no_truncation()  # the file's own setting truncates at 128 tokens, without an error
        tokenizer.no_padding()
        return cls(tokenizer)

    def exact(self, text: str) -> int:
        """Return the tokens of ``text``, with special tokens."""
        return len(self._tokenizer.encode(text))

    def estimate(self, text: str) -> int:
        """Return the sum of the words' tokens, without special tokens.

        Much faster than ``exact``, and equal for a tokenizer that first splits on white space and
        punctuation, as BERT's does.
        """
        return sum(map(self._count_word, _TOKEN_WORD.findall(text)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A passage's text and its place; ``token_count`` is of title, heading and text, with special tokens."""

    heading: str
    text: str
    start: int
    token_count: int


class PassageCutter:
    """Cuts parsed documents into passages that fit into the embedding model's ``max_tokens``.

    It cuts at the widest boundary that fits: blank lines, lines, sentences, words. A passage lies in one
    section.
    """

    def __init__(self, counts: TokenCounts, *, max_tokens: int, language: Language) -> None:
        self._counts = counts
        self._max_tokens = max_tokens
        self._language = language

    def fits(self, text: str) -> bool:
        """Return whether the text is within the embedding model's limit."""
        return self._counts.exact(text) <= self._max_tokens

    def cut(
        self, document: Document, parsed: ParsedDocument, *, content_hash: str, updated_at: datetime
    ) -> tuple[Passage, ...]:
        """Return passages with all of the text; the ``embedding_input`` of each is within the limit.

        A unit belongs to the passage in which it begins; units before the first passage belong to the first.
        Raises DocumentInvalidError when the title leaves no tokens for text.
        """
        title = document.title
        pieces = [piece for section in parsed.sections for piece in self._pieces(title, section, parsed)]
        units = self._units(document.title, parsed, starts=[piece.start for piece in pieces])
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
                token_count=piece.token_count,
                source=document.source,
                type=document.type,
                url=document.url,
                updated_at=updated_at,
                labels=document.labels,
                units=tuple(units[ordinal]),
            )
            for ordinal, piece in enumerate(pieces)
        )

    def _units(self, title: str, parsed: ParsedDocument, *, starts: Sequence[int]) -> list[list[Unit]]:
        """Return the units of each passage, with terms (stems for the search), and cells for rows of tables.

        ``starts``: where each passage begins. Units of kind ROW and rows of ``parsed.tables`` are in the same
        order.
        """
        units: list[list[Unit]] = [[] for _ in starts]
        rows = ((table.header, row) for table in parsed.tables for row in table.rows)
        stem, content_words = self._language.stem, self._language.content_words
        for unit in parsed.units:
            complete = replace(
                unit,
                heading=_without_title(title, unit.heading),
                terms=tuple(dict.fromkeys(map(stem, content_words(unit.text)))),
                cells=_unit_cells(unit, *next(rows, ((), ()))) if unit.kind is UnitKind.ROW else (),
            )
            units[max(0, bisect_right(starts, unit.span.start) - 1)].append(complete)
        return units

    def _pieces(self, title: str, section: Section, parsed: ParsedDocument) -> Iterator[_Piece]:
        """Yield the pieces of a section: cut by the fast estimate, and again by exact counts if that was too
        low."""
        text = parsed.text[section.span.start : section.span.end]
        heading, heading_tokens = self._heading(title, section.headings)
        exact = partial(self._exact_count, title, heading)
        chunks = _chunks(text, self._counts.estimate, self._max_tokens - heading_tokens)
        counts = [exact(chunk) for _, chunk in chunks]
        if max(counts) > self._max_tokens:  # the estimate was too low
            chunks = _chunks(text, exact, self._max_tokens)
            counts = [exact(chunk) for _, chunk in chunks]
        if max(counts) > self._max_tokens:
            raise DocumentInvalidError("A single character has more tokens than the embedding model reads.")
        for (offset, chunk), tokens in zip(chunks, counts, strict=True):
            yield _Piece(heading=heading, text=chunk, start=section.span.start + offset, token_count=tokens)

    def _heading(self, title: str, headings: tuple[str, ...]) -> tuple[str, int]:
        """Return the heading to embed, and the number of tokens of title, heading and special tokens.

        The heading is the path, else its last name, else "", the first that leaves LEAST_TEXT_SHARE for text.
        A first name that repeats the title is left out.
        """
        path = headings[1:] if headings and headings[0].casefold() == title.casefold() else headings
        most = self._max_tokens - int(self._max_tokens * LEAST_TEXT_SHARE)
        for kept in (path, path[-1:], ()):
            heading = _HEADING_SEPARATOR.join(kept)
            tokens = self._exact_count(title, heading, "")
            if tokens <= most:
                return heading, tokens
        problem = f"The title takes {tokens} of the {self._max_tokens} tokens that the embedding model reads"
        raise DocumentInvalidError(f"{problem}; shorten it to {most} or fewer.")

    def _exact_count(self, title: str, heading: str, text: str) -> int:
        return self._counts.exact(embedding_input(title=title, heading=heading, text=text))


def _chunks(text: str, count: Callable[[str], int], most_tokens: int) -> list[tuple[int, str]]:
    """Return (offset, part) for parts of ``text`` with at most ``most_tokens`` tokens. Runs longer than
    LONGEST_RUN are cut first, wherever that is."""
    splitter = TextSplitter.from_callback(count, most_tokens)
    boundaries = [0]
    for run in _RUN.finditer(text):
        if run.end() - run.start() > LONGEST_RUN:
            boundaries += [*range(run.start(), run.end(), LONGEST_RUN), run.end()]
    return [
        (start + offset, chunk)
        for start, end in pairwise([*boundaries, len(text)])
        for offset, chunk in splitter.chunk_indices(text[start:end])
    ]


def _unit_cells(unit: Unit, names: Sequence[str], row: Sequence[Span]) -> tuple[tuple[str, int, int], ...]:
    """Return the cells of a row with text as (name of the column, start, end), counted from the unit's start.

    ``row`` has the spans in the document. A row of one cell is a title: it has no name.
    """
    start, names_or_none = unit.span.start, (*(names if len(row) > 1 else ()), *("" for _ in row))
    return tuple(
        (name, cell.start - start, cell.end - start)
        for name, cell in zip(names_or_none, row, strict=False)
        if cell.start < cell.end
    )


def _without_title(title: str, heading: str) -> str:
    """Return a heading path without the document's title at its beginning: "Fees > Visits" in "Fees" is
    "Visits"."""
    prefix = f"{title}{_HEADING_SEPARATOR}"
    if f"{heading}{_HEADING_SEPARATOR}"[: len(prefix)].casefold() == prefix.casefold():
        return heading[len(prefix) :]
    return heading


def build_card(
    document: Document, parsed: ParsedDocument, *, content_hash: str, updated_at: datetime
) -> DocumentCard:
    """Return what the index keeps of a document beside its passages: metadata, words and abbreviations."""
    return DocumentCard(
        document_id=document.document_id,
        content_hash=content_hash,
        title=document.title,
        questions=document.questions,
        source=document.source,
        type=document.type,
        url=document.url,
        owner=document.owner,
        effective_date=document.effective_date,
        updated_at=updated_at,
        labels=document.labels,
        abbreviations=find_abbreviations(parsed.text),
        words=distinct_words("\n".join((document.title, *document.questions, parsed.text))),
        item=document.item,
        banner=parsed.banner,
        in_force=document.in_force,
    )


def distinct_words(text: str) -> tuple[str, ...]:
    """Return the distinct words of SHORTEST_WORD to LONGEST_WORD letters, folded and sorted, without "'s"."""
    words = {word.removesuffix("'s") for word in _WORD.findall(fold(text))}
    kept = (word for word in words if SHORTEST_WORD <= len(word) <= LONGEST_WORD and word.isalpha())
    return tuple(sorted(kept))


def find_abbreviations(text: str) -> tuple[tuple[str, str], ...]:
    """Return each (short form, long form) that the text defines as "long form (SF)", folded, in order.

    "An electrocardiogram (ECG) is free." gives ("ecg", "electrocardiogram").

    The algorithm is Schwartz and Hearst's (A simple algorithm for identifying abbreviation definitions in
    biomedical text, PSB 2003). A short form with several different long forms is omitted.
    """
    abbreviations: dict[str, set[str]] = {}
    for short, long in _candidates(text):
        abbreviations.setdefault(fold(short), set()).add(fold(long))
    return tuple((short, longs.pop()) for short, longs in abbreviations.items() if len(longs) == 1)


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    """Yield each (short form, long form) in the order of the text, as written; a plural "s" is dropped from
    both."""
    for bracket in _SHORT_FORM.finditer(text):
        short = bracket[1]
        if sum(map(str.isupper, short)) < 2:
            continue  # a word in brackets, not an abbreviation
        before = _CLAUSE_END.split(text[max(0, bracket.start() - _LONGEST_BEFORE) : bracket.start()])[-1]
        is_plural = short.endswith("s") and len(short) > 2
        short = short[:-1] if is_plural else short
        # Schwartz and Hearst: a long form has at most min(|SF| + 5, 2 |SF|) words
        words = before.split()[-min(len(short) + 5, 2 * len(short)) :]
        long = _long_form(short.casefold(), " ".join(words))
        if long is not None:
            yield short, long.removesuffix("s") if is_plural and not long.endswith("ss") else long


def _long_form(short: str, before: str) -> str | None:
    """Return the shortest end of ``before`` that has the letters of ``short`` in order, the first at a word's
    start; None if no end has, or if it is no longer than ``short`` or contains it.

    ("ecg", "a free electrocardiogram") is "electrocardiogram". Both texts are read from their ends:
    ``letter`` is the place in ``short``, ``at`` that in ``before``.
    """
    at = len(before)
    folded = before.casefold()
    if len(folded) != len(before):
        return None  # case folding changed the positions of letters
    for letter in range(len(short) - 1, -1, -1):
        at -= 1
        while at >= 0 and not (
            folded[at] == short[letter] and (letter > 0 or at == 0 or not folded[at - 1].isalnum())
        ):
            at -= 1
        if at < 0:
            return None
    long = before[at:]
    return long if len(long) > len(short) and short not in long.casefold().split() else None
