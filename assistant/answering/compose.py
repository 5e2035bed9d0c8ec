"""Composes a quoted answer: a section, a table of items or an approved answer as blocks to stream, each noted
among the answer's excerpts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.answering.approved import ServedAnswer
from assistant.answering.choose import Section, blocks
from assistant.answering.evidence import Evidence, SourceList
from assistant.answering.excerpts import (
    NO_LABELS,
    SNIPPET_CHARACTERS,
    Excerpts,
    Labels,
    Place,
    labelled_unit,
    labels_in,
    shown_heading,
    shown_path,
    shown_reply,
    shown_snippet,
    shown_title,
    shown_unit,
)
from assistant.answering.live_elements import ReadyElement
from assistant.answering.rank import ScoredUnit
from assistant.answering.tables import Comparison, parts, table_element
from assistant.domain.answers import AlsoPossible, ShownAs
from assistant.domain.documents import Passage, StoredDocument
from assistant.text.language import fold
from assistant.text.safe_markdown import safe_markdown

_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class QuotedBlock:
    """One unit as it is streamed."""

    before: str
    """Markdown between the unit before and this one: blank lines, a heading, a list marker."""
    text: str
    passage: Passage
    span: tuple[int, int]
    """[start, end) in the document's parsed text."""
    n: int
    """Number of the source that contains it."""
    is_key: bool = False
    """Whether it is one of the lines that matter most for the question."""
    rests_on: tuple[int, ...] = ()
    """Numbers of the sources that an approved answer rests on."""
    elements: tuple[tuple[str, int, int], ...] = ()
    """Live elements that the unit names: name, and [start, end) of the label in ``text``."""
    ready: ReadyElement | None = None
    """A table made from documents that ends with this block."""
    of_items: tuple[str, tuple[str, ...]] | None = None
    """A live element that follows that table, and the numbers of the items that it is read for."""


def section_blocks(
    section: Section,
    found: Evidence,
    sources: SourceList,
    excerpts: Excerpts,
    *,
    opening: str = "",
    labels: Labels = NO_LABELS,
) -> list[QuotedBlock]:
    """Return a section's units as they are streamed. A unit without a letter or digit, such as one that was
    only an address, is left out. The source opens at the passage of the likeliest unit."""
    url = section.document.card.url
    texts = {one.unit.ordinal: labelled_unit(one.unit.text, url=url, labels=labels) for one in section.units}
    units = tuple(one for one in section.units if _LETTER_OR_DIGIT.search(texts[one.unit.ordinal][0].text))
    if units:
        sources.number(min(units, key=lambda one: (-round(one.score, 4), one.unit.ordinal)).passage, found)
    built: list[QuotedBlock] = []
    for before, one in blocks(replace(section, units=units)):
        labelled, tags = texts[one.unit.ordinal]
        text = labelled.text
        excerpts.add(text, _place(one, ShownAs.UNIT, labels=labels))
        excerpts.add(shown_heading(one.unit.heading), _place(one, ShownAs.HEADING))
        built.append(
            QuotedBlock(
                before=before if built else opening + before,
                text=text,
                passage=one.passage,
                span=(one.unit.span.start, one.unit.span.end),
                n=sources.number(one.passage, found),
                is_key=one.unit.ordinal in section.keys,
                elements=tuple((tags[number].name, start, end) for number, start, end in labelled.places),
            )
        )
    return built


def table_blocks(
    table: Comparison, found: Evidence, sources: SourceList, excerpts: Excerpts, *, opening: str
) -> list[QuotedBlock]:
    """Return a table of items as it is streamed: a block for each item and each review. The elements follow
    the last item; opinions alone have none."""
    blocks = [
        QuotedBlock(part.before, part.text, part.passage, part.span, sources.number(part.passage, found))
        for part in parts(table, excerpts, opening=opening)
    ]
    if not table.items:
        return blocks
    last = len(table.items) - 1
    before = sum(len(block.before) + len(block.text) for block in blocks[:last]) + len(blocks[last].before)
    ready = table_element(table, lambda passage: sources.number(passage, found), excerpts)
    blocks[last] = replace(
        blocks[last],
        ready=replace(ready, begins_before=before - len(opening)),
        of_items=(table.stock, table.in_stock) if table.stock else None,
    )
    return blocks


def approved_blocks(
    served: ServedAnswer, found: Evidence, sources: SourceList, excerpts: Excerpts, *, opening: str
) -> list[QuotedBlock]:
    """Return the paragraphs of an approved answer as they are streamed. Each cites the answer itself and the
    documents that it rests on."""
    passage = served.passage
    n = sources.number(passage, found)
    rests_on = tuple(
        sources.number(document.passages[0], found)
        for document in served.documents.values()
        if document.passages
    )
    built: list[QuotedBlock] = []
    end = 0
    for paragraph in _PARAGRAPH.finditer(passage.text):
        text = shown_unit(paragraph[0], url=None)
        between = passage.text[end : paragraph.start()]
        place = Place(passage.document_id, passage.content_hash, (paragraph.span(),), ShownAs.UNIT)
        excerpts.add(text, place)
        built.append(
            QuotedBlock(between if built else opening, text, passage, paragraph.span(), n, rests_on=rests_on)
        )
        end = paragraph.end()
    return built


def shown_section(section: Section, parts: Sequence[QuotedBlock]) -> AlsoPossible:
    """Return a section as one text: of the document that contends, or to read while a model writes."""
    card = section.document.card
    return AlsoPossible(
        document_id=card.document_id,
        title=shown_title(card.title),
        effective_date=card.effective_date,
        text="".join(part.before + part.text for part in parts),
        citations=tuple(sorted({part.n for part in parts})),
    )


def snippet(
    passage: Passage, *, stems: frozenset[str], excerpts: Excerpts, labels: Labels = NO_LABELS
) -> str:
    """Return about two sentences of a passage, beginning with its first unit that has most of the stems.

    Adds them and the headings above them to ``excerpts``.
    """
    units = passage.units
    start, begins_inside = 0, False
    if units:
        best = max(units, key=lambda unit: (len(stems.intersection(unit.terms)), -unit.ordinal))
        start, begins_inside = best.span.start - passage.span.start, best.ordinal != units[0].ordinal
    text = passage.text[start : start + 2 * SNIPPET_CHARACTERS]
    url = passage.url if passage.url and passage.url in text else None
    used = labels_in([text], labels)
    shown = shown_snippet(text, inside=begins_inside, url=url, labels=used)
    place = Place(
        passage.document_id,
        passage.content_hash,
        ((passage.span.start + start, passage.span.start + start + len(text)),),
        ShownAs.SNIPPET_INSIDE if begins_inside else ShownAs.SNIPPET,
        url=url,
        labels=used,
    )
    excerpts.add(shown, place)
    path = replace(place, shown_as=ShownAs.PATH, heading_letters=len(passage.heading))
    excerpts.add(shown_path(passage.heading), path)
    return shown


def _place(one: ScoredUnit, shown_as: ShownAs, *, labels: Labels = NO_LABELS) -> Place:
    unit, passage = one.unit, one.passage
    return Place(
        passage.document_id,
        passage.content_hash,
        ((unit.span.start, unit.span.end),),
        shown_as,
        heading_letters=len(unit.heading) if shown_as is ShownAs.HEADING else 0,
        url=passage.url if passage.url and passage.url in unit.text else None,
        labels=labels_in([unit.text], labels),
    )


def reply_draft(
    document: StoredDocument, headings: Sequence[str], excerpts: Excerpts, labels: Labels
) -> str | None:
    """Return what the document says to the patient, under one of the tenant file's headings, or None.

    A unit that names a live element is left out: its label would say nothing to a patient.
    """
    url, wanted = document.card.url, frozenset(map(fold, headings))
    reply = [
        (passage, unit)
        for passage in document.passages
        for unit in passage.units
        if fold(unit.heading.rpartition(" > ")[2]).strip() in wanted and not labels_in([unit.text], labels)
    ]
    draft = shown_reply((unit.text for _, unit in reply), url=url)
    if reply:
        passage = reply[0][0]
        spans = tuple((unit.span.start, unit.span.end) for _, unit in reply)
        excerpts.add(draft, Place(passage.document_id, passage.content_hash, spans, ShownAs.REPLY, url=url))
    return draft or None


def as_title(question: str) -> str:
    """Return the question as a line of Markdown without active content: anybody may have written it."""
    line = safe_markdown(" ".join(question.split()), allowed_urls=()).strip()
    return f"**{line}**" if line else ""
