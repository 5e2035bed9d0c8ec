"""Composes a quoted answer: sections as blocks to stream, each noted among the answer's excerpts.

``MakeQuote`` works for quoted and for written answers. A written one needs the numbered sources, the section
to read while the model writes, and the quote as a fallback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from assistant.answer.adaptations import Adaptations
from assistant.answer.choose import ChooseSection, Evidence, Section, blocks
from assistant.answer.elements import labels_of
from assistant.answer.excerpts import (
    NO_LABELS,
    SNIPPET_CHARACTERS,
    Excerpts,
    Labels,
    Place,
    labelled_unit,
    labels_in,
    shown_heading,
    shown_snippet,
    shown_title,
    source_of,
)
from assistant.answer.offers import Cite, QuotedBlock
from assistant.answer.prompt import Prompt
from assistant.answer.rank import RankDocuments, Ranked, SourceList
from assistant.answer.scores import ScoredUnit
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope
from assistant.domain.answers import AlsoPossible, Cell, OfferedAnswer, ShownAs, Source, SourceFacts, TableRow
from assistant.domain.documents import DocumentCard, Passage, RankedPassage, Unit
from assistant.domain.identity import Identity
from assistant.text.safe_markdown import inert, safe_markdown

KEPT_CANDIDATES = 20
"""Documents whose features the record keeps."""
DIFFERENT = "**These documents are in force and give different values. Ask which one holds.**"


def section_blocks(
    section: Section,
    cite: Cite,
    excerpts: Excerpts,
    *,
    opening: str = "",
    labels: Labels = NO_LABELS,
    names: Callable[[str], bool] = lambda _: False,
) -> list[QuotedBlock]:
    """Return a section's units as they are streamed, and add their texts to ``excerpts``. The link of the
    source opens the document at the likeliest unit's passage, for this is cited first.

    ``opening``: Markdown before the first unit. ``labels``: of the live elements that the document may name.
    ``names``: whether the question names a column of a table."""
    if section.units:
        best = min(section.units, key=lambda scored: (-round(scored.score, 4), scored.unit.ordinal))
        cite(best.passage)
    built: list[QuotedBlock] = []
    for before, scored in blocks(section):
        labelled, tags = labelled_unit(scored.unit.text, labels=labels)
        text, is_key = labelled.text, scored.unit.ordinal in section.keys
        excerpts.add(text, _place(scored, ShownAs.UNIT, labels=labels))
        excerpts.add(shown_heading(scored.unit.heading), _place(scored, ShownAs.HEADING))
        built.append(
            QuotedBlock(
                before=before if built else opening + before,
                text=text,
                passage=scored.passage,
                span=(scored.unit.span.start, scored.unit.span.end),
                n=cite(scored.passage),
                # an element's label must be seen, and moves the places of cells
                quote="folded" if scored.unit.ordinal in section.folded and not tags else "shown",
                is_key=is_key,
                cells=() if tags else _cells(scored.unit, names if is_key else lambda _: False),
                elements=tuple((tags[number].name, start, end) for number, start, end in labelled.places),
            )
        )
    return built


def _cells(unit: Unit, is_key: Callable[[str], bool]) -> tuple[Cell, ...]:
    """Return the cells of a row of a table, "Plan: Medicare; File within: 65 days". None of them where the
    row has one cell, or a column's name does not stand before its value. ``is_key``: whether a column is
    marked."""
    cells: list[Cell] = []
    for name, start, end in unit.cells:
        before = f"{name}: " if name else ""
        if len(unit.cells) < 2 or not unit.text[:start].endswith(before):
            return ()
        named = start - len(before)
        cells.append(Cell(name=(named, named + len(name)), value=(start, end), is_key=is_key(name)))
    return tuple(cells)


def shown_section(section: Section, parts: Sequence[QuotedBlock]) -> AlsoPossible:
    """Return a section as one text: of a second document, or to read while a model writes. ``parts``: its
    ``section_blocks``."""
    card, rows, end = section.document.card, list[TableRow](), 0
    for part in parts:
        start = end + len(part.before)
        end = start + len(part.text)
        if part.cells:
            cells = tuple(cell.moved(start) for cell in part.cells)
            rows.append(TableRow(start=start, end=end, is_key=part.is_key, cells=cells))
    return AlsoPossible(
        document_id=card.document_id,
        title=shown_title(card.title),
        effective_date=card.effective_date,
        text="".join(part.before + part.text for part in parts),
        citations=tuple(sorted({part.n for part in parts})),
        rows=tuple(rows),
    )


def dated_title(section: Section) -> str:
    """Return a document's title and date above its rows, in Markdown."""
    card = section.document.card
    date = card.effective_date or card.updated_at.date()
    kind = "effective" if card.effective_date else "updated"
    return f"**{inert(shown_title(card.title))}**, {kind} {date}\n\n"


def snippet(
    passage: Passage, *, stems: frozenset[str], excerpts: Excerpts, labels: Labels = NO_LABELS
) -> str:
    """Return about two sentences of a passage, from the unit on that has most of the stems, the first of
    equal ones. Adds them and the headings above them to ``excerpts``.

    ``stems``: of the question's words. ``labels``: of the live elements that the document may name.
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


def _place(scored: ScoredUnit, shown_as: ShownAs, *, labels: Labels = NO_LABELS) -> Place:
    """Return from where a unit's text, or the heading above it, is read again."""
    unit, passage = scored.unit, scored.passage
    return Place(
        passage.document_id,
        passage.content_hash,
        ((unit.span.start, unit.span.end),),
        shown_as,
        heading_letters=len(unit.heading) if shown_as is ShownAs.HEADING else 0,
        labels=labels_in([unit.text], labels),
    )


def as_title(question: str) -> str:
    """Return the question as a line of Markdown without active content: anybody may have written it."""
    line = safe_markdown(" ".join(question.split()), allowed_urls=()).strip()
    return f"**{line}**" if line else ""


@dataclass(frozen=True, slots=True)
class Quote:
    """What is shown of the documents: the answer itself, or what stands beside a written one.

    | field        | quoted answer            | written answer                                |
    | blocks       | its text                 | the fallback for a text that fails            |
    | also         | beside the text          | beside the fallback                           |
    | section      | None                     | to read while the model writes                |
    """

    evidence: tuple[Evidence, ...]
    """One for each question. Never empty."""
    passages: tuple[RankedPassage, ...] = ()
    """The passage of each source: that of source ``n`` is at index n - 1."""
    sources: tuple[Source, ...] = ()
    """The numbered sources, as the agent sees them."""
    excerpts: Excerpts = field(default_factory=Excerpts)
    """What the answer shows of documents."""
    blocks: tuple[QuotedBlock, ...] = ()
    """The quoted answer: the answer itself, or the fallback when written text fails."""
    also: tuple[AlsoPossible, ...] = ()
    """Sections of second documents whose score is near the best one's (``Evidence.also``)."""
    section: AlsoPossible | None = None
    """The first question's section."""
    offered: OfferedAnswer | None = None
    """An approved answer to a near question."""

    @classmethod
    def of_prompt(cls, ranked: Sequence[Ranked], prompt: Prompt) -> Quote:
        """Return what is known before ``MakeQuote.run``: the documents, and the numbers of the prompt."""
        return cls(tuple(Evidence(part, part.hits.offered) for part in ranked), passages=prompt.sources)

    @property
    def ranked(self) -> list[Ranked]:
        return [part.ranked for part in self.evidence]

    @property
    def answered(self) -> frozenset[int]:
        """Index of each question that is answered without a model."""
        return frozenset(at for at, part in enumerate(self.evidence) if part.is_found)

    @property
    def elements(self) -> list[str]:
        """Names of the live elements that its units name, in their order."""
        return [name for block in self.blocks for name, _, _ in block.elements]

    @property
    def of_items(self) -> list[str]:
        """Names of the live elements that follow a table and have values of its items, such as their stock.
        Empty where the question itself names an item: then its own read answers, not the table's."""
        names = [block.of_items[0] for block in self.blocks if block.of_items is not None]
        return names if names and not any(part.ranked.hits.named for part in self.evidence) else []

    def without_scores(self) -> Quote:
        """Return it without what neither the stream nor the record reads: this frees some 0.4 MB for the time
        that the answer streams."""
        slim = (
            replace(
                part,
                ranked=replace(
                    part.ranked,
                    order=part.ranked.order[:KEPT_CANDIDATES],
                    scored={},
                    hits=replace(
                        part.ranked.hits,
                        retrieved=replace(part.ranked.hits.retrieved, passages=(), hits=(), documents=()),
                    ),
                ),
            )
            for part in self.evidence
        )
        return replace(self, evidence=tuple(slim))


@dataclass(slots=True)
class _Composing:
    """What one quote collects while it is composed; its parts change these in place. A source gets the next
    number when it is first cited: by the sections that answer, then by those of second documents, then the
    other documents that were found."""

    numbers: SourceList
    """The sources so far; those of the prompt come first."""
    excerpts: Excerpts = field(default_factory=Excerpts)
    """What was shown so far, of any document."""
    shown: dict[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    """Ordinals of the units that answer so far, by document."""

    def note_shown(self, section: Section) -> None:
        """Note that a section answers: another question does not show its units again."""
        before = self.shown.get(section.document_id, frozenset[int]())
        self.shown[section.document_id] = before | section.ordinals


class MakeQuote:
    """Chooses and composes what is shown of the documents that were found. One instance serves all requests.

    Example::

        quote = await MakeQuote(services, adaptations, rank).run(ranked, None, identity, scope)
        quote.blocks  # to stream; each cites a number of quote.sources
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, rank: RankDocuments) -> None:
        self._services = services
        self.choose = ChooseSection(services, adaptations, rank)
        self._stems = rank.scorer.stems

    async def run(
        self,
        ranked: Sequence[Ranked],
        prompt: Prompt | None,
        identity: Identity,
        scope: SearchScope,
    ) -> Quote:
        """Choose the sections and return the quote. ``prompt``: what a model reads; the quote keeps the
        numbers of its sources and adds its own. None: no model writes. ``identity``: whose links it has.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        weighed = await asyncio.gather(*(self.choose.run(part, scope) for part in ranked))
        numbers = SourceList() if prompt is None else SourceList(prompt.sources)
        with scope.steps.step("compose") as span:
            quote = self._compose(tuple(weighed), numbers, is_written=prompt is not None)
            span.set_attribute("assistant.found", bool(quote.answered))
        return self._with_sources(quote, numbers, identity)

    def of_prompt(self, ranked: Sequence[Ranked], prompt: Prompt, identity: Identity) -> Quote:
        """Return the sources of the prompt alone, for an answer that was cancelled before it began."""
        return self._with_sources(Quote.of_prompt(ranked, prompt), SourceList(prompt.sources), identity)

    def _compose(self, evidence: tuple[Evidence, ...], numbers: SourceList, *, is_written: bool) -> Quote:
        """Return the quote without its sources, which it numbers. ``is_written``: a model writes, so a
        section is taken also where it is not near enough to answer by itself."""
        composing = _Composing(numbers)
        answering = [part for part in evidence if part.is_found or is_written]
        blocks = self._answers(answering, composing)
        also = self._contending(answering, composing)
        for part in evidence:
            numbers.fill(part.ranked, up_to=self._services.tenant.retrieval.passages)
        first = next((part.section for part in answering if part.section is not None), None)
        is_beside = is_written and bool(blocks)
        return Quote(
            evidence,
            offered=self._offered(evidence, composing),
            excerpts=composing.excerpts,
            blocks=tuple(blocks),
            also=tuple(also),
            section=shown_section(first, blocks) if is_beside and first is not None else None,
        )

    def _answers(self, answering: Sequence[Evidence], composing: _Composing) -> list[QuotedBlock]:
        """Return what answers each question. Where there are several, each question stands as a title above
        its answer, and questions with the same section stand together."""
        blocks: list[QuotedBlock] = []
        for at, part in enumerate(answering):
            opening = "\n\n" if blocks else ""
            if len(answering) > 1:
                same = [later for later in answering[at + 1 :] if _is_shown_by(part, later)]
                titles = [as_title(asked.query.question) for asked in (part, *same)]
                opening += "".join(f"{title}\n\n" for title in titles if title)
            blocks += self._blocks(part, composing, opening=opening)
        return blocks

    def _blocks(self, part: Evidence, composing: _Composing, *, opening: str) -> list[QuotedBlock]:
        """Return an option's answer to one question, or its section; nothing where its section was shown for
        an earlier question. ``opening``: Markdown before it.

        Above a section stand, in this order: the days counted from the date of the question, where the
        section limits them; that other documents give different values, where they do.
        """
        if part.answer is not None:
            cite = composing.numbers.citing(part.ranked)
            return part.answer.blocks(cite, composing.excerpts, opening=opening)
        section = part.section
        if section is None or section.ordinals <= composing.shown.get(section.document_id, frozenset()):
            return []
        composing.note_shown(section)
        query = part.ranked.hits.query
        lines = [scored.unit.text for scored in section.units]
        days = self._services.counted_days(query.text, lines, at=query.at)
        opening += "".join(f"{line}.\n\n" for line in days)
        if not part.differing:
            return self._section_blocks(section, part, composing, opening=opening)
        built: list[QuotedBlock] = []
        opening += f"{DIFFERENT}\n\n"
        for shown in (section, *part.differing):
            built += self._section_blocks(shown, part, composing, opening=opening + dated_title(shown))
            opening = "\n\n"
        return built

    def _contending(self, answering: Sequence[Evidence], composing: _Composing) -> list[AlsoPossible]:
        """Return the sections of second documents (``Evidence.also``), each document once, without those that
        answer a question already."""
        contending: dict[str, AlsoPossible] = {}
        for part in answering:
            section = part.also
            if section is not None and section.document_id not in {*composing.shown, *contending}:
                blocks = self._section_blocks(section, part, composing)
                contending[section.document_id] = shown_section(section, blocks)
        return list(contending.values())

    def _section_blocks(
        self, section: Section, part: Evidence, composing: _Composing, *, opening: str = ""
    ) -> list[QuotedBlock]:
        """Return the units of a section that is shown for a question."""
        asked = part.ranked.asked.stems
        return section_blocks(
            section,
            composing.numbers.citing(part.ranked),
            composing.excerpts,
            opening=opening,
            labels=labels_of(section.document_id, self._services),
            names=lambda column: not asked.isdisjoint(self._stems(column)),
        )

    def _offered(self, evidence: Sequence[Evidence], composing: _Composing) -> OfferedAnswer | None:
        """Return the first approved text, to show beside the answer; None where it is the answer itself, or
        there is none."""
        used = ((part, text, text.use) for part in evidence for text in part.offered if text.use is not None)
        first = next(used, None)
        if first is None:
            return None
        part, offered, use = first
        if offered.answers:
            return None
        if offered.documents and not offered.documents.keys() & part.ranked.documents.keys():
            return None  # the search found none of the documents that it is made from: another topic
        blocks = offered.blocks(composing.numbers.citing(part.ranked), composing.excerpts, opening="")
        return OfferedAnswer(
            item_id=use.item_id,
            revision=use.revision,
            question=offered.wording,
            text="".join(block.before + block.text for block in blocks),
            n=blocks[0].n if blocks else 1,
        )

    def _with_sources(self, quote: Quote, numbers: SourceList, identity: Identity) -> Quote:
        """Return the quote with its sources as the agent sees them; add their snippets to its excerpts."""
        evidence, excerpts = quote.evidence, quote.excerpts
        links = self._services.documents.links
        stems = frozenset[str]().union(*(part.ranked.asked.stems for part in evidence))
        cards = _cards(evidence)
        sources: list[Source] = []
        for n, ranked in enumerate(numbers.passages, start=1):
            passage, card = ranked.passage, cards.get(ranked.passage.document_id)
            labels = labels_of(passage.document_id, self._services)
            source = source_of(passage, n=n, score=ranked.fused_score, links=links, identity=identity)
            shown = {
                "heading": passage.heading,
                "effective_date": card.effective_date if card is not None else None,
                "banner": card.banner if card is not None else "",
                "snippet": snippet(passage, stems=stems, excerpts=excerpts, labels=labels),
                "facts": source_facts(card),
            }
            sources.append(source.model_copy(update=shown))
        return replace(quote, passages=tuple(numbers.passages), sources=tuple(sources))


def _is_shown_by(part: Evidence, later: Evidence) -> bool:
    """Return whether the section of one question has all that another one's would show."""
    if part.answer or later.answer or part.section is None or later.section is None:
        return False
    is_same = later.section.document_id == part.section.document_id
    return is_same and later.section.ordinals <= part.section.ordinals


def source_facts(card: DocumentCard | None) -> SourceFacts | None:
    """Return what an agent sees beside a shop's source: price and rating of an item, votes of a review."""
    if card is None or card.item is None:
        return None
    item = card.item
    return SourceFacts(**{name: getattr(item, name) for name in SourceFacts.model_fields})


def _cards(evidence: Sequence[Evidence]) -> dict[str, DocumentCard]:
    """Return the cards of all documents that were read or that offers are made from, by document id."""
    read = [part.ranked.documents for part in evidence]
    read += [offered.documents for part in evidence for offered in part.offered]
    return {name: document.card for documents in read for name, document in documents.items()}
