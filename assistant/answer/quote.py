"""Composes a quoted answer: a section, a table of items or an approved answer as blocks to stream, each noted
among the answer's excerpts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assistant.answer.choose import Section, blocks
from assistant.answer.elements import ReadyElement
from assistant.answer.excerpts import (
    NO_LABELS,
    SNIPPET_CHARACTERS,
    Excerpts,
    Labels,
    Place,
    labelled_unit,
    labels_in,
    shown_heading,
    shown_lines,
    shown_reply,
    shown_snippet,
    shown_title,
)
from assistant.answer.rank import ScoredUnit
from assistant.answer.rank_documents import Evidence, SourceList
from assistant.domain.answers import AlsoPossible, QuotedAs, ShownAs
from assistant.domain.documents import Passage, StoredDocument
from assistant.domain.elements import LONGEST_SHOWN, ElementData, ElementKind, ElementRow, ElementValue
from assistant.domain.filling import ElementType, Filled
from assistant.options.desk.approved import ServedAnswer
from assistant.options.shop.tables import Comparison, stars_of
from assistant.text.language import fold
from assistant.text.safe_markdown import inert, safe_markdown

_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")
_TABLE = ElementType(
    name="catalogue.comparison",
    kind=ElementKind.TABLE,
    title="Items compared",
    source="catalogue",
    operation="",
)


DIFFERENT = "**These documents are in force and give different values. Ask which one holds.**"


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
    quote: QuotedAs | None = None
    """How a page may show stored text; None for an approved answer, which is Markdown."""
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
    """Return a section's units as they are streamed. The source opens at the likeliest unit's passage."""
    if section.units:
        best = min(section.units, key=lambda one: (-round(one.score, 4), one.unit.ordinal))
        sources.number(best.passage, found)
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
                n=sources.number(one.passage, found),
                quote="folded" if one.unit.ordinal in section.folded and not tags else "shown",
                is_key=one.unit.ordinal in section.keys,
                elements=tuple((tags[number].name, start, end) for number, start, end in labelled.places),
            )
        )
    return built


def table_blocks(
    table: Comparison, found: Evidence, sources: SourceList, excerpts: Excerpts, *, opening: str
) -> list[QuotedBlock]:
    """Return a table of items as it is streamed: the lines of each item under its name, then the reviews. The
    elements follow the last item; opinions alone have none."""
    before = f"{opening}**{inert(table.heading)}**\n\n" + (
        f"{inert(table.remark)}\n\n" if table.remark else ""
    )
    built: list[QuotedBlock] = []
    for item in table.items:
        passage = item.facts[0].passage
        spans = tuple(fact.span for fact in item.facts)
        text = shown_lines(fact.line for fact in item.facts)
        excerpts.add(text, Place(passage.document_id, passage.content_hash, spans, ShownAs.LINES))
        before += f"**{inert(shown_title(item.document.card.title))}**\n\n- "
        ends = min(start for start, _ in spans), max(end for _, end in spans)
        built.append(QuotedBlock(before, text, passage, ends, sources.number(passage, found), "shown"))
        before = "\n\n"
    if built:
        begins = sum(len(one.before) + len(one.text) for one in built) - len(built[-1].text) - len(opening)
        filled = _filled(table, found, sources)
        stock = (table.stock, table.in_stock) if table.stock else None
        built[-1] = replace(built[-1], ready=ReadyElement(_TABLE, filled, begins), of_items=stock)
        before = "\n\n**What customers say**\n\n"
    for review in table.reviews:
        passage = review.passages[0]
        span = (passage.span.start, passage.span.end)
        text = passage.text
        excerpts.add(text, Place(passage.document_id, passage.content_hash, (span,), ShownAs.UNIT))
        n = sources.number(passage, found)
        built.append(QuotedBlock(f"{before}- {_of_review(review)}: ", text, passage, span, n, "shown"))
        before = "\n"
    return built


def _of_review(review: StoredDocument) -> str:
    """Return a review's stars, date and title."""
    stars, card = round(stars_of(review)), review.card
    shown = "\N{BLACK STAR}" * stars + "\N{WHITE STAR}" * (5 - stars)
    when = f", {card.effective_date.isoformat()}" if card.effective_date is not None else ""
    return f"{shown}{when}, {inert(shown_title(card.title))}"


def _filled(table: Comparison, found: Evidence, sources: SourceList) -> Filled:
    """Return the data of the table as an element."""
    names = {name: _slug(name, at) for at, name in enumerate(table.columns)}
    rows = tuple(
        ElementRow(
            title=shown_title(item.document.card.title)[:LONGEST_SHOWN],
            values=tuple(
                ElementValue(
                    name=names[fact.name],
                    label=fact.name,
                    text=fact.value[:LONGEST_SHOWN],
                    citations=(sources.number(fact.passage, found),),
                )
                for fact in item.facts
            ),
            citations=(sources.number(item.facts[0].passage, found),),
        )
        for item in table.items
    )
    columns = tuple(ElementValue(name=names[name], label=name, text="") for name in table.columns)
    data = ElementData(columns=columns, rows=rows)
    cards = [item.document.card for item in table.items]
    dates = [card.effective_date for card in cards if card.effective_date is not None]
    as_of = min(dates) if dates else min(card.updated_at for card in cards)
    about = ". ".join(filter(None, (table.heading, table.remark)))
    return Filled(data, as_of, about[:LONGEST_SHOWN])


def _slug(name: str, at: int) -> str:
    return (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or f"column_{at}")[:64]


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
        text = paragraph[0]
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
