"""Composes a quoted answer: sections as blocks to stream, each noted among the answer's excerpts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assistant.answer.choose import Section, blocks
from assistant.answer.excerpts import (
    NO_LABELS,
    SNIPPET_CHARACTERS,
    Excerpts,
    Labels,
    Place,
    labelled_unit,
    labels_in,
    shown_heading,
    shown_reply,
    shown_snippet,
    shown_title,
)
from assistant.answer.offers import Cite, QuotedBlock
from assistant.answer.rank import ScoredUnit
from assistant.domain.answers import AlsoPossible, ShownAs
from assistant.domain.documents import Passage, StoredDocument
from assistant.text.language import fold
from assistant.text.safe_markdown import inert, safe_markdown

DIFFERENT = "**These documents are in force and give different values. Ask which one holds.**"


def section_blocks(
    section: Section,
    cite: Cite,
    excerpts: Excerpts,
    *,
    opening: str = "",
    labels: Labels = NO_LABELS,
) -> list[QuotedBlock]:
    """Return a section's units as they are streamed. The source opens at the likeliest unit's passage."""
    if section.units:
        best = min(section.units, key=lambda one: (-round(one.score, 4), one.unit.ordinal))
        cite(best.passage)
    built: list[QuotedBlock] = []
    for before, one in blocks(section):
        labelled, tags = labelled_unit(one.unit.text, labels=labels)
        text = labelled.text
        excerpts.add(text, _place(one, ShownAs.UNIT, labels=labels))
        excerpts.add(shown_heading(one.unit.heading), _place(one, ShownAs.HEADING))
        built.append(
            QuotedBlock(
                before=before if built else opening + before,
                text=text,
                passage=one.passage,
                span=(one.unit.span.start, one.unit.span.end),
                n=cite(one.passage),
                quote="folded" if one.unit.ordinal in section.folded and not tags else "shown",
                is_key=one.unit.ordinal in section.keys,
                elements=tuple((tags[number].name, start, end) for number, start, end in labelled.places),
            )
        )
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


def dated_title(section: Section) -> str:
    """Return a document's title and date above its rows, in Markdown."""
    card = section.document.card
    date = card.effective_date or card.updated_at.date()
    told = "effective" if card.effective_date else "updated"
    return f"**{inert(shown_title(card.title))}**, {told} {date}\n\n"


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
    used = labels_in([text], labels)
    shown = shown_snippet(text, inside=begins_inside, labels=used)
    place = Place(
        passage.document_id,
        passage.content_hash,
        ((passage.span.start + start, passage.span.start + start + len(text)),),
        ShownAs.SNIPPET_INSIDE if begins_inside else ShownAs.SNIPPET,
        labels=used,
    )
    excerpts.add(shown, place)
    path = replace(place, shown_as=ShownAs.PATH, heading_letters=len(passage.heading))
    excerpts.add(passage.heading, path)
    return shown


def _place(one: ScoredUnit, shown_as: ShownAs, *, labels: Labels = NO_LABELS) -> Place:
    unit, passage = one.unit, one.passage
    return Place(
        passage.document_id,
        passage.content_hash,
        ((unit.span.start, unit.span.end),),
        shown_as,
        heading_letters=len(unit.heading) if shown_as is ShownAs.HEADING else 0,
        labels=labels_in([unit.text], labels),
    )


def reply_draft(
    document: StoredDocument, headings: Sequence[str], excerpts: Excerpts, labels: Labels
) -> str | None:
    """Return what the document says to the patient, under one of the tenant file's headings, or None.

    A unit that names a live element is left out: its label would say nothing to a patient.
    """
    wanted = frozenset(map(fold, headings))
    reply = [
        (passage, unit)
        for passage in document.passages
        for unit in passage.units
        if fold(unit.heading.rpartition(" > ")[2]).strip() in wanted and not labels_in([unit.text], labels)
    ]
    draft = shown_reply(unit.text for _, unit in reply)
    if reply:
        passage = reply[0][0]
        spans = tuple((unit.span.start, unit.span.end) for _, unit in reply)
        excerpts.add(draft, Place(passage.document_id, passage.content_hash, spans, ShownAs.REPLY))
    return draft or None


def as_title(question: str) -> str:
    """Return the question as a line of Markdown without active content: anybody may have written it."""
    line = safe_markdown(" ".join(question.split()), allowed_urls=()).strip()
    return f"**{line}**" if line else ""
