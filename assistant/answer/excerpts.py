"""Keeps documents' texts out of the records of answers, and puts them back when a record is read.

A record has a *run* in place of each text that the answer shows of a document: one private-use character,
repeated as often as the shown text has characters, so that positions in the record's text stay right. An
``Excerpt`` beside it says from where the text is read again: document, content, spans, and ``ShownAs``, how
it was changed before it was shown.

The ``shown_*`` functions make the shown text when an answer is made, and again when its record is read. There
the hash of the text must be the same: a change of one of these functions needs its earlier form as a further
candidate in ``_candidates``, else records show a notice in place of the text.

Example: the second excerpt (mark 1) shows "Send a form."::

    kept = excerpts.keep("First:\\n\\nSend a form.")  # "First:\\n\\n" and 12 times the character U+F0001
    fill(kept, {1: "Send a form."})  # "First:\\n\\nSend a form."
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any
from urllib.parse import quote

from assistant.domain.answers import (
    MOST_EXCERPTS,
    AlsoPossible,
    AnswerRecord,
    Excerpt,
    PassageUse,
    ShownAs,
    Source,
    source_kind,
)
from assistant.domain.documents import ParsedDocument, Passage, Span
from assistant.domain.errors import DependencyError
from assistant.domain.identity import Identity
from assistant.stores.ports import DocumentLinks, DocumentTexts
from assistant.text.marks import EXCERPTS
from assistant.text.markup import Labelled, Tag, with_labels, with_marks
from assistant.text.safe_markdown import inert, safe_markdown

_RUN = re.compile(rf"([{EXCERPTS.characters}])\1*")
_GONE = "[withdrawn] "
"""Opens the notice in place of a text that its reader may not read."""


def marks_in(text: str) -> set[int]:
    """Return the numbers of the excerpts that have a run in the text."""
    return {EXCERPTS.number(run[1]) for run in _RUN.finditer(text)}


def fill(text: str, shown: Mapping[int, str], *, encode: Callable[[str], str] = str) -> str:
    """Return the text with its runs replaced by ``shown``, the texts by mark, each passed through ``encode``.

    A run without a text in ``shown``, or whose length is no multiple of that text's, is left unchanged: those
    characters are part of the text itself. A run of twice the length is the excerpt shown twice in a row.
    """

    def filled(run: re.Match[str]) -> str:
        excerpt_text = shown.get(EXCERPTS.number(run[1]))
        if not excerpt_text:
            return run[0]
        times, rest = divmod(len(run[0]), len(excerpt_text))
        return run[0] if rest else encode(excerpt_text) * times

    return _RUN.sub(filled, text)


def stand_in(excerpt: Excerpt) -> str:
    """Return a notice of the same length, for a reader who may not read the text any more."""
    return _GONE.ljust(excerpt.letters, "\N{LIGHT SHADE}")[: excerpt.letters]


SNIPPET_CHARACTERS = 280
"""Some two sentences."""
_BETWEEN_HEADINGS = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} "
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_READ_AT_ONCE = 16
"""Documents of one record that are read from the store at once."""
_READ_LIMIT_S = 6.0
"""For all documents of one call."""
_HASH_DIGITS = 16
"""Hexadecimal, of ``Excerpt.text_hash``."""
_NO_TITLE = "(no title)"
_IN_ADDRESSES = "%/:?#@!$&*+,;=~"
"""Not encoded, besides letters, digits and ``_.-``: brackets and quotation marks could end Markdown."""

Labels = Mapping[str, str]
"""Words in place of live elements' tags, by ``Tag.key``: {"orders.status": "[order status]"}; empty where
tags stay text."""
NO_LABELS: Labels = {}


Guard = Callable[[str], str]
"""How the text of a document is changed on its way to an answer: ``_as_stored``, not at all. Earlier releases
made safe Markdown of it; the excerpts of their records are shown again with that."""


def _as_stored(text: str) -> str:
    return text


def shown_unit(text: str, *, labels: Labels = NO_LABELS, guard: Guard = _as_stored) -> str:
    """Return a unit as an answer quotes it: the stored text, with labels in place of live elements' tags."""
    return labelled_unit(text, labels=labels, guard=guard)[0].text


def labelled_unit(
    text: str, *, labels: Labels, guard: Guard = _as_stored
) -> tuple[Labelled, tuple[Tag, ...]]:
    """Return a unit as an answer quotes it, with the places of its labels, and the tags: number n in
    ``places`` is the nth of them, from 0."""
    marked, tags = with_marks(text, labels) if labels else (text, ())
    marked = guard(marked)
    if not tags:
        return Labelled(marked), ()
    return with_labels(marked, {number: labels[tag.key] for number, tag in enumerate(tags)}), tags


def labels_in(texts: Iterable[str], labels: Labels) -> dict[str, str]:
    """Return those of the labels whose tags the texts have."""
    tags = [tag for text in texts for tag in with_marks(text, labels)[1]] if labels else []
    return {tag.key: labels[tag.key] for tag in tags}


def shown_heading(heading: str) -> str:
    """Return a heading path, joined by " > ", as an answer shows it above a unit: in Markdown."""
    return inert(_joined(heading))


def _joined(heading: str) -> str:
    return heading.replace(" > ", _BETWEEN_HEADINGS)


def shown_title(title: str) -> str:
    """Return a document's title on one line, or words in its place."""
    return " ".join("".join(char if char.isprintable() else " " for char in title).split()) or _NO_TITLE


def shown_url(url: str | None) -> str | None:
    """Return an address that cannot end the link, attribute or tag around it: such characters are
    percent-encoded, which keeps the target."""
    return quote(url, safe=_IN_ADDRESSES) if url is not None else None


def source_of(
    place: Passage | PassageUse, *, n: int, score: float, links: DocumentLinks, identity: Identity
) -> Source:
    """Return a numbered source without its snippet. An approved answer, which is shown whole, has no link."""
    span = place.span if isinstance(place, Passage) else Span(*place.span)
    kind = source_kind(place.document_id)
    link = ""
    if kind != "approved":
        link = links.link(place.document_id, span=span, identity=identity, content_hash=place.content_hash)
    return Source(
        n=n,
        kind=kind,
        document_id=place.document_id,
        title=shown_title(place.title),
        url=shown_url(place.url),
        source=place.source,
        score=score,
        snippet="",
        span=(span.start, span.end),
        content_hash=place.content_hash,
        document_url=link,
    )


def shown_lines(texts: Iterable[str], *, guard: Guard = _as_stored) -> str:
    """Return lines of a document as a list, without the marker of its first item."""
    return "\n- ".join(map(guard, texts))


def shown_snippet(text: str, *, inside: bool, labels: Labels = NO_LABELS, guard: Guard = _as_stored) -> str:
    """Return about two sentences of a text, white space collapsed, cut after a word where it is longer.
    ``inside``: the passage begins before the text, so an ellipsis stands before it."""
    shown = " ".join(shown_unit(text, labels=labels)[: 2 * SNIPPET_CHARACTERS].split())
    if len(shown) > SNIPPET_CHARACTERS:
        cut = shown.rfind(" ", SNIPPET_CHARACTERS // 2, SNIPPET_CHARACTERS)
        shown = shown[: cut if cut > 0 else SNIPPET_CHARACTERS] + _ELLIPSIS
    return _ELLIPSIS * inside + guard(shown)


@dataclass(frozen=True, slots=True)
class Place:
    """From where an excerpt's text is read again. Its fields are those of ``Excerpt`` of the same names,
    which says what they mean."""

    document_id: str
    content_hash: str
    spans: tuple[tuple[int, int], ...]
    shown_as: ShownAs
    heading_letters: int = 0
    labels: Labels = field(default_factory=dict[str, str])
    """Of the tags in the text that are shown as labels."""


class Excerpts:
    """The excerpts of one answer.

    Whoever composes the answer calls ``add`` with each text that it shows of a document. Whoever writes the
    record passes each of its texts through ``keep``, then asks ``used_in`` for the excerpts to keep beside.
    """

    def __init__(self) -> None:
        self._by_text: dict[str, tuple[int, Place]] = {}
        """Mark and place by the shown text; the mark is the number of those before it. A record keeps few."""

    def add(self, shown: str, place: Place) -> None:
        """Add a shown text. Of the same text from two places the first place is kept."""
        if shown.strip() and shown not in self._by_text and len(self._by_text) < MOST_EXCERPTS:
            self._by_text[shown] = len(self._by_text), place

    def keep(self, text: str) -> str:
        """Return a text with runs in place of the shown texts of documents, for each of their characters that
        of the excerpt; a longer one is replaced before one that is part of it."""
        for shown in sorted(filter(text.__contains__, self._by_text), key=len, reverse=True):
            text = text.replace(shown, EXCERPTS.mark(self._by_text[shown][0]) * len(shown))
        return text

    def keep_also(self, also: Sequence[AlsoPossible]) -> tuple[AlsoPossible, ...]:
        """Return the sections with ``keep`` of their texts."""
        return tuple(part.model_copy(update={"text": self.keep(part.text)}) for part in also)

    def used_in(self, *texts: str | None) -> tuple[Excerpt, ...]:
        """Return the excerpts that have a run in one of the texts, by mark."""
        used_marks = set[int]().union(*(marks_in(text) for text in texts if text))
        return tuple(excerpt for _, excerpt in self.all(used_marks))

    def all(self, marks: Collection[int] = range(MOST_EXCERPTS)) -> list[tuple[str, Excerpt]]:
        """Return the shown texts of these marks with their excerpts, by mark."""
        kept = self._by_text.items()
        return [(shown, _excerpt(shown, mark, place)) for shown, (mark, place) in kept if mark in marks]


def _excerpt(shown: str, mark: int, place: Place) -> Excerpt:
    where: dict[str, Any] = {attribute.name: getattr(place, attribute.name) for attribute in fields(place)}
    return Excerpt(mark=mark, letters=len(shown), text_hash=_hash(shown), **where)


def shown_again(excerpt: Excerpt, parsed: ParsedDocument) -> str | None:
    """Return the text that the answer showed; None if no candidate from this document has its hash."""
    for shown in _candidates(excerpt, parsed):
        if _hash(shown) == excerpt.text_hash:
            return shown
    return None


def _candidates(excerpt: Excerpt, parsed: ParsedDocument) -> Iterable[str]:
    """Yield what the excerpt may have shown: as this release shows it, then as earlier releases did."""
    allowed = (excerpt.url,) if excerpt.url else ()
    for guard in (_as_stored, partial(safe_markdown, allowed_urls=allowed)):
        yield from _shown_as(excerpt, parsed, guard)


def _shown_as(excerpt: Excerpt, parsed: ParsedDocument, guard: Guard) -> Iterable[str]:
    """Yield the excerpt's text as ``shown_as`` says; of a heading one for each unit or section at its
    place."""
    texts = [parsed.text[start:end] for start, end in excerpt.spans]
    match excerpt.shown_as:
        case ShownAs.UNIT:
            yield shown_unit(texts[0], labels=excerpt.labels, guard=guard)
        case ShownAs.LINES:
            yield shown_lines(texts, guard=guard)
        case ShownAs.SNIPPET | ShownAs.SNIPPET_INSIDE:
            inside = excerpt.shown_as is ShownAs.SNIPPET_INSIDE
            yield shown_snippet(texts[0], inside=inside, labels=excerpt.labels, guard=guard)
        case ShownAs.HEADING | ShownAs.PATH:
            is_heading = excerpt.shown_as is ShownAs.HEADING
            for path in _paths_of(excerpt, parsed):
                yield inert(path) if is_heading and guard is _as_stored else guard(path).strip()
        case ShownAs.REPLY:
            pass


def _paths_of(excerpt: Excerpt, parsed: ParsedDocument) -> Iterator[str]:
    """Yield the last ``heading_letters`` characters of the heading paths at the excerpt's place: of units
    with its span for HEADING, of sections around its start for PATH."""
    start, end = excerpt.spans[0]
    if excerpt.shown_as is ShownAs.HEADING:
        paths = [unit.heading for unit in parsed.units if unit.span == Span(start, end)]
        yield from (_joined(path[len(path) - excerpt.heading_letters :]) for path in paths)
        return
    for section in parsed.sections:
        if section.span.start <= start <= section.span.end:
            path = " > ".join(section.headings)
            yield path[len(path) - excerpt.heading_letters :]


async def read_excerpts(
    excerpts: Sequence[Excerpt], texts: DocumentTexts, *, labels: frozenset[str]
) -> Mapping[int, str | None]:
    """Return by mark the excerpts' texts; None where the document was withdrawn, is not open to these access
    labels, or has another text. Raises DependencyError."""
    contents = dict.fromkeys((excerpt.document_id, excerpt.content_hash) for excerpt in excerpts)
    free = asyncio.Semaphore(_READ_AT_ONCE)

    async def read(document_id: str, content_hash: str) -> ParsedDocument | None:
        async with free:
            return await texts.read(document_id, content_hash, labels=labels)

    try:
        async with asyncio.timeout(_READ_LIMIT_S):
            documents = await asyncio.gather(*(read(*content) for content in contents))
    except TimeoutError:
        raise DependencyError(
            f"The document store did not return the quoted texts within {_READ_LIMIT_S:.0f} s. Retry."
        ) from None
    by_content = dict(zip(contents, documents, strict=True))
    return {
        excerpt.mark: None if document is None else shown_again(excerpt, document)
        for excerpt in excerpts
        for document in [by_content[excerpt.document_id, excerpt.content_hash]]
    }


def fill_record(record: AnswerRecord, shown: Mapping[int, str | None]) -> AnswerRecord:
    """Return the record for a reader: with the documents' texts, or a notice in their place. ``shown``: from
    ``read_excerpts`` with the reader's labels."""
    texts = {excerpt.mark: shown.get(excerpt.mark) or stand_in(excerpt) for excerpt in record.excerpts}
    also = tuple(part.model_copy(update={"text": fill(part.text, texts)}) for part in record.also)
    passages = tuple(
        use.model_copy(update={"title": shown_title(use.title), "url": shown_url(use.url)})
        for use in record.passages
    )
    return record.model_copy(
        update={"text": fill(record.text, texts), "also": also, "passages": passages, "excerpts": ()}
    )


def gone_from(record: AnswerRecord, shown: Mapping[int, str | None]) -> frozenset[str]:
    """Return the ids of the record's documents whose text could not be shown. ``shown``: as
    ``fill_record``."""
    return frozenset(
        excerpt.document_id
        for excerpt in record.excerpts
        if shown.get(excerpt.mark) is None and excerpt.shown_as is not ShownAs.REPLY
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
