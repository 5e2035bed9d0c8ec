"""Finds the table that answers a question about items, from the catalogue's lines, with reviews beside it.

Which items are shown and in which order follows from the facts of the documents as they are read for the
answer. Each value is a line of its item's document, quoted. Where no item fits, there is no table but the
reason, and the nearest item.

| question | what is shown |
| --- | --- |
| "rivulet 400 vs rivulet 500" | comparison: a table of both, with the properties in which they differ |
| "a quiet humidifier under $80" | recommendation: a table of up to three, the best rated first |
| "is the rivulet 400 any good" | opinion: reviews for and against it, without a table |
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from assistant.answer.call import NO_FILTERS, AnswerCall, call_within
from assistant.answer.elements import ReadyElement
from assistant.answer.excerpts import Excerpts, Place, shown_lines, shown_title
from assistant.answer.find import SourceSearch, source_ids
from assistant.answer.message import PartQuery
from assistant.answer.offers import Cite, Offer, QuotedBlock
from assistant.answer.services import TenantServices
from assistant.domain.answers import ShownAs
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    KnownItem,
    KnownWords,
    Passage,
    PassageQuery,
    StoredDocument,
    id_prefix_of,
)
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.domain.live import (
    LONGEST_SHOWN,
    ElementData,
    ElementKind,
    ElementRow,
    ElementType,
    ElementValue,
    Filled,
)
from assistant.options.shop.items import PRICE, RATING, Catalogue, ItemQuestion, NamedItems
from assistant.tenant.tenant import SourceEntry
from assistant.text.language import language
from assistant.text.safe_markdown import inert

DISCONTINUED = "Discontinued"
"""Property of an item that is not sold any more: it is compared, never recommended."""
MOST_RECOMMENDED = 3
MOST_READ = 8
"""Items whose documents are read: some may have changed since the directory was made."""
MOST_COLUMNS = 8
"""Columns of a table, unless a question asks for more."""
REVIEWED_ITEMS = 2
"""Items whose reviews are quoted: the first ones of the table."""
REVIEWS_SEARCHED, REVIEWS_READ = 60, 20
"""For one item and source: hits of each leg of the search, and reviews that are read."""
GOOD_STARS, BAD_STARS = 4.0, 2.0
"""A review with at least, and with at most, so many stars is for, and against, its item."""
_LONGEST_VALUE = 48
"""Characters of a property that gets a column without being asked for."""
_LONGEST_REVIEW = 70
"""Words of a review that is quoted."""
_USUAL_STARS, _USUAL_RATINGS = 3.0, 4
"""Ratings that are added to each item's: four of three stars. One rating of 5 stars then counts 3.4."""
_BY_RATING = "Rating (few reviews count less), highest first"
"""The order by ``_rating``, which differs from the order of the numbers that are shown."""
# A line of an item's document: "- Weight: 2 kg".
_FACT = re.compile(r"(?:[-*•]\s+)?(?P<name>[^:\n]{1,60}):[ \t]+(?P<value>\S.{0,200})")
_HELPFUL_VOTE = 0.002
"""Worth of one vote of "helpful", as a difference of cosines; of at most ``_MOST_VOTES``."""
_MOST_VOTES = 50
_TABLE = ElementType(
    name="catalogue.comparison",
    kind=ElementKind.TABLE,
    title="Items compared",
    source="catalogue",
    operation="",
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of an item's document: "Weight: 2 kg"."""

    name: str
    value: str
    line: str
    """Verbatim, without a list marker."""
    span: tuple[int, int]
    """[start, end) of the line in the document's parsed text."""
    passage: Passage


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One row of a table."""

    document: StoredDocument
    facts: tuple[Fact, ...]
    """Those of the table's columns that its document has, in their order."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An ``Offered``: a table of items with reviews, reviews alone, or why no item is shown."""

    asked: ItemQuestion
    items: tuple[ComparedItem, ...] = ()
    columns: tuple[str, ...] = ()
    reviews: tuple[StoredDocument, ...] = ()
    """Reviews for and against the first items; of each its first passage is quoted. For a question of opinion
    there are only these."""
    refusal: str = ""
    """Why no item is shown; empty where some are."""

    @property
    def documents(self) -> Mapping[str, StoredDocument]:
        documents = [*(item.document for item in self.items), *self.reviews]
        return {document.card.document_id: document for document in documents}

    @property
    def answers(self) -> bool:
        return not self.refusal

    @property
    def use(self) -> None:
        return None

    @property
    def wording(self) -> str:
        return ""

    @property
    def heading(self) -> str:
        """What of the question was understood: "Humidifier: Price under $80; Rating …, highest first"."""
        if self.asked.kind == "opinion":
            return f"What customers say of the {self.asked.items[0].title}"
        bounds = [f"{bound.name} {bound.text}" for bound in self.asked.bounds]
        bounded = {bound.name for bound in self.asked.bounds}
        names = [name for name in self.asked.names if name not in bounded]
        order = [_BY_RATING] if self.asked.kind == "recommendation" else []
        return f"{self.asked.category}: {'; '.join((*bounds, *order, *names)) or 'compared'}"

    @property
    def remark(self) -> str:
        """Words of the question by which no item was chosen, so that no agent believes one was: "Not checked:
        quiet.". Empty without any."""
        return f"Not checked: {', '.join(self.asked.unread)}." if self.asked.unread else ""

    def blocks(self, cite: Cite, excerpts: Excerpts, *, opening: str) -> list[QuotedBlock]:
        """Return the lines of each item under its name, then the reviews.

        The last item's block carries an element: the table, which replaces the text from the heading to the
        end of this block. Opinions alone have none.
        """
        remark = f"{inert(self.remark)}\n\n" if self.remark else ""
        before = f"{opening}**{inert(self.heading)}**\n\n{remark}"
        built: list[QuotedBlock] = []
        for item in self.items:
            passage = item.facts[0].passage
            spans = tuple(fact.span for fact in item.facts)
            text = shown_lines(fact.line for fact in item.facts)
            excerpts.add(text, Place(passage.document_id, passage.content_hash, spans, ShownAs.LINES))
            before += f"**{inert(shown_title(item.document.card.title))}**\n\n- "
            ends = min(start for start, _ in spans), max(end for _, end in spans)
            built.append(QuotedBlock(before, text, passage, ends, cite(passage), "shown"))
            before = "\n\n"
        if built:
            begins = sum(len(block.before) + len(block.text) for block in built)
            begins -= len(built[-1].text) + len(opening)
            ready = ReadyElement(_TABLE, self._filled(cite), begins)
            built[-1] = replace(built[-1], ready=ready)
            before = "\n\n**What customers say**\n\n"
        for review in self.reviews:
            passage = review.passages[0]
            span = (passage.span.start, passage.span.end)
            text = passage.text
            excerpts.add(text, Place(passage.document_id, passage.content_hash, (span,), ShownAs.UNIT))
            before += f"- {_review_line(review)}: "
            built.append(QuotedBlock(before, text, passage, span, cite(passage), "shown"))
            before = "\n"
        return built

    def _filled(self, cite: Cite) -> Filled:
        """Return the table as an element's data, with the oldest date of its documents."""
        names = {name: _slug(name, at) for at, name in enumerate(self.columns)}
        rows = tuple(
            ElementRow(
                title=shown_title(item.document.card.title)[:LONGEST_SHOWN],
                values=tuple(
                    ElementValue(
                        name=names[fact.name],
                        label=fact.name,
                        text=fact.value[:LONGEST_SHOWN],
                        citations=(cite(fact.passage),),
                    )
                    for fact in item.facts
                ),
                citations=(cite(item.facts[0].passage),),
            )
            for item in self.items
        )
        columns = tuple(ElementValue(name=names[name], label=name, text="") for name in self.columns)
        data = ElementData(columns=columns, rows=rows)
        cards = [item.document.card for item in self.items]
        dates = [card.effective_date for card in cards if card.effective_date is not None]
        as_of = min(dates) if dates else min(card.updated_at for card in cards)
        about = ". ".join(filter(None, (self.heading, self.remark)))
        return Filled(data, as_of, about[:LONGEST_SHOWN])


def _review_line(review: StoredDocument) -> str:
    """Return a review's stars, date and title: "★★★★☆, 2026-03-02, Quiet enough"."""
    stars, card = round(stars_of(review)), review.card
    shown = "\N{BLACK STAR}" * stars + "\N{WHITE STAR}" * (5 - stars)
    when = f", {card.effective_date.isoformat()}" if card.effective_date is not None else ""
    return f"{shown}{when}, {inert(shown_title(card.title))}"


def _slug(name: str, at: int) -> str:
    """Return the name of a column in an element: "noise_level" for "Noise level"; ``at``: its index."""
    return (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or f"column_{at}")[:64]


# --- choosing ---------------------------------------------------------------------------------------------
def candidates(asked: ItemQuestion, known: Sequence[KnownItem]) -> tuple[KnownItem, ...]:
    """Return the items whose documents are read: those compared, or for a recommendation up to ``MOST_READ``
    of the category, those that miss the bounds least first."""
    if asked.kind == "comparison":
        return asked.items
    sold = [item for item in known if item.facts.category == asked.category and _is_sold(item)]
    return tuple(sorted(sold, key=lambda item: _rank(item, asked))[:MOST_READ])


def _is_sold(item: KnownItem) -> bool:
    return DISCONTINUED not in item.facts.properties


def _missed(item: KnownItem, asked: ItemQuestion) -> float:
    """Return the shares by which an item misses the bounds, added: 0 where it meets all."""
    return sum(bound.missed_by(item.facts) for bound in asked.bounds)


def _rank(item: KnownItem, asked: ItemQuestion) -> tuple[float, float]:
    """Return the sort key of recommended items: those that miss the bounds least first, then the best
    rated."""
    return _missed(item, asked), -_rating(item)


def _rating(item: KnownItem) -> float:
    """Return the mean rating with the usual ratings added, so that few ratings count less; 0 without any."""
    if item.facts.rating is None:
        return 0.0
    count = item.facts.ratings or 1
    return (item.facts.rating * count + _USUAL_STARS * _USUAL_RATINGS) / (count + _USUAL_RATINGS)


def compare(asked: ItemQuestion, documents: Sequence[StoredDocument]) -> Comparison:
    """Return the table of the documents' items that fit, or the reason why none does. An item whose document
    has no fact does not fit."""
    read = {document.card.document_id: document for document in documents}
    cards = [document.card for document in read.values()]
    items = [KnownItem(card.document_id, card.title, card.item) for card in cards if card.item]
    fitting = items
    if asked.kind == "recommendation":
        items = sorted(filter(_is_sold, items), key=lambda item: _rank(item, asked))
        fitting = [item for item in items if not _missed(item, asked)][:MOST_RECOMMENDED]
    facts = {item.document_id: _facts_of(read[item.document_id]) for item in fitting}
    fitting = [item for item in fitting if facts[item.document_id]]
    if not fitting or (asked.kind == "comparison" and len(fitting) < 2):
        return Comparison(asked, refusal=_refusal(asked, items))
    columns = _columns(asked, [facts[item.document_id] for item in fitting])
    compared = tuple(
        ComparedItem(read[item.document_id], tuple(values[name] for name in columns if name in values))
        for item in fitting
        for values in [facts[item.document_id]]
    )
    return Comparison(asked, compared, columns)


def _refusal(asked: ItemQuestion, items: Sequence[KnownItem]) -> str:
    """Return why no item is shown. ``items``: those that were read, the nearest first."""
    if asked.kind == "comparison":
        return "The catalogue holds fewer than two of these items that your access rights let through."
    wanted = ", ".join(f"{bound.name} {bound.text}" for bound in asked.bounds)
    sentences = [f"The catalogue has no item of {asked.category.lower()} with {wanted} that is still sold."]
    if items:
        sentences.append(f"The nearest is “{shown_title(items[0].title)}”.")
    return " ".join(sentences)


def _facts_of(document: StoredDocument) -> dict[str, Fact]:
    """Return by name the lines of a document that state a property of its item, its price or its rating."""
    item = document.card.item
    names = {PRICE, RATING, *(item.properties if item is not None else ())}
    facts: dict[str, Fact] = {}
    for passage in document.passages:
        for unit in passage.units:
            read = _FACT.fullmatch(unit.text)
            if read is not None and read["name"] in names:
                begins = read.start("name")
                span = (unit.span.start + begins, unit.span.end)
                fact = Fact(read["name"], read["value"], unit.text[begins:], span, passage)
                facts.setdefault(fact.name, fact)
    return facts


def opinions(
    asked: ItemQuestion, reviews: Sequence[StoredDocument], *, ranked: Sequence[StoredDocument]
) -> Comparison:
    """Return the reviews that answer a question of opinion on one item, without a table.

    ``ranked``: reviews that the search found, best first; ``reviews`` follow them, best first, too.
    """
    return Comparison(asked, reviews=_of_each_side((*ranked, *reviews)))


def _columns(asked: ItemQuestion, facts: Sequence[Mapping[str, Fact]]) -> tuple[str, ...]:
    """Return the names of the columns: properties that were asked for, price, rating and "Discontinued", then
    other short ones. For a comparison the others are those in which the items differ.

    ``facts``: of each item, as ``_facts_of`` returns them.
    """
    names = dict.fromkeys(name for row in facts for name in row)
    bounded = [bound.name for bound in asked.bounds]
    first = [name for name in (*asked.names, *bounded, PRICE, RATING, DISCONTINUED) if name in names]
    others = [name for name in names if _is_short(name, facts)]
    if asked.kind == "comparison":
        others = [
            name for name in others if len({row[name].value if name in row else "" for row in facts}) > 1
        ]
    return tuple(dict.fromkeys((*first, *others)))[: max(MOST_COLUMNS, len(first))]


def _is_short(name: str, facts: Sequence[Mapping[str, Fact]]) -> bool:
    return all(len(row[name].value) <= _LONGEST_VALUE for row in facts if name in row)


# --- reviews ----------------------------------------------------------------------------------------------
def _of_each_side(reviews: Iterable[StoredDocument]) -> tuple[StoredDocument, ...]:
    """Return up to three short reviews of one item: the best, and the best for and against the item.

    ``reviews``: the best first.
    """
    sides: dict[int, StoredDocument] = {}
    for review in reviews:
        if review.passages and len(review.passages[0].text.split()) <= _LONGEST_REVIEW:
            sides.setdefault(_side(review), review)
    first = next(iter(sides), 0)
    return tuple(review for side, review in sides.items() if side or side == first)


def _worth(review: StoredDocument, cosine: float) -> float:
    """Return a review's rank for a question: its cosine with it, and something for votes of "helpful"."""
    item = review.card.item
    votes = (item.helpful_votes or 0) if item is not None else 0
    return cosine + _HELPFUL_VOTE * min(_MOST_VOTES, votes)


def _side(review: StoredDocument) -> int:
    """Return 1 for a review in favour of its item, -1 for one against it, 0 for another one."""
    stars = stars_of(review)
    return 1 if stars >= GOOD_STARS else -1 if 0 < stars <= BAD_STARS else 0


def stars_of(review: StoredDocument) -> float:
    """Return its stars; 0 without any."""
    return (review.card.item.rating or 0.0) if review.card.item is not None else 0.0


# --- reading ----------------------------------------------------------------------------------------------
class OfferItems(Offer):
    """Answers questions about the items of a catalogue by tables, and those of opinion by reviews.

    ``find`` is called for each question before its section is chosen, ``reconsider`` after the search, with
    what it found (see ``Offer``).
    """

    def __init__(self, services: TenantServices) -> None:
        self._services, self._search = services, SourceSearch(services)
        self._words = language(services.tenant.language)
        tenant = services.tenant
        reviews = [source for source in tenant.sources if source.kind == "reviews"]
        self._reviews = tuple(zip(reviews, source_ids(tenant, kind="reviews"), strict=True))
        self._known: KnownWords | None = None
        self._catalogue: Catalogue | None = None

    def named(self, text: str, *, known: KnownWords | None) -> NamedItems | None:
        catalogue = self._catalogue_of(known)
        return catalogue.named(text) if catalogue is not None else None

    def _catalogue_of(self, known: KnownWords | None) -> Catalogue | None:
        """Return the catalogue of the index's items, built once for each reading of the index; None without
        items."""
        if known is None or not known.items:
            return None
        if self._known is not known or self._catalogue is None:
            self._known, self._catalogue = known, Catalogue.of(known.items, self._words)
        return self._catalogue

    async def find(
        self, query: PartQuery, call: AnswerCall, *, meanings: Mapping[str, str]
    ) -> Comparison | None:
        """Return the table that a question asks for, or the reason why no item fits a recommendation.

        None for another question, under filters, and for a comparison without two items. Reviews that cannot
        be read in time are left out.
        """
        catalogue, known = self._catalogue_of(query.known), query.known
        if catalogue is None or known is None or call.filters != NO_FILTERS:
            return None
        asked = catalogue.read(query.question, meanings=meanings)
        if asked is None:
            return None
        with call.steps.step("items"):
            table = await self._table(asked, known, vector=query.vector, call=call)
        return None if table.refusal and asked.kind == "comparison" else table

    async def _table(
        self, asked: ItemQuestion, known: KnownWords, *, vector: Sequence[float], call: AnswerCall
    ) -> Comparison:
        """Return the table of the items as their documents are now, with reviews."""
        wanted = [item.document_id for item in candidates(asked, known.items)]
        documents = await self._search.read(wanted, call)
        comparison = compare(
            asked, [documents[document_id] for document_id in wanted if document_id in documents]
        )
        reviewed = [item.document for item in comparison.items[:REVIEWED_ITEMS]]
        reviews_of_items = await asyncio.gather(
            *(self._reviews_of(item, vector=vector, call=call) for item in reviewed)
        )
        reviews = tuple(review for of_item in reviews_of_items for review in _of_each_side(of_item))
        return replace(comparison, reviews=reviews)

    async def reconsider(
        self,
        query: PartQuery,
        call: AnswerCall,
        *,
        read: Mapping[str, StoredDocument],
        ranked: Sequence[StoredDocument],
    ) -> Comparison | None:
        """Return reviews for and against the item if the question names one item and a review is the best
        result; None otherwise, and if there is no other review than that one."""
        named, best = self.named(query.question, known=query.known), ranked[0]
        if named is None or len(named.items) != 1 or not self._is_review(best):
            return None
        item = named.items[0]
        own_reviews = [
            document
            for document in ranked
            if self._is_review(document)
            and document.card.item is not None
            and document.card.item.item_id in named.ids
        ]
        sheet = read.get(item.document_id)
        if sheet is None or not own_reviews:
            return None
        with call.steps.step("items"):
            reviews = await self._reviews_of(sheet, vector=query.vector, call=call)
        asked = ItemQuestion("opinion", (item,), item.facts.category)
        opinion = opinions(asked, reviews, ranked=own_reviews)
        shown = [review.card.document_id for review in opinion.reviews]
        return None if shown in ([], [best.card.document_id]) else opinion

    def _is_review(self, document: StoredDocument) -> bool:
        prefix = id_prefix_of(document.card.document_id)
        return any(source.id_prefix == prefix for source, _ in self._reviews)

    async def _reviews_of(
        self, item: StoredDocument, *, vector: Sequence[float], call: AnswerCall
    ) -> list[StoredDocument]:
        """Return reviews of an item, the most relevant and helpful first, without those of a source that is
        late or cannot be read.

        ``vector``: of the question, shape (dimensions,).
        """
        query = PassageQuery(
            text=item.card.title,
            vector=vector,
            filters=call.filters,
            labels=call.labels,
            leg_size=REVIEWS_SEARCHED,
            size=1,
        )
        by_source = await asyncio.gather(
            *(self._reviews_in(source, item, replace(query, ids=ids), call) for source, ids in self._reviews)
        )
        reviews = [pair for pairs in by_source for pair in pairs]
        reviews.sort(key=lambda pair: (-pair[0], pair[1].card.document_id))
        return [review for _, review in reviews]

    async def _reviews_in(
        self, source: SourceEntry, item: StoredDocument, query: PassageQuery, call: AnswerCall
    ) -> list[tuple[float, StoredDocument]]:
        """Return the reviews of an item in one source with their worth; none where they are late or cannot be
        read."""

        async def read(step: Deadline) -> list[tuple[float, StoredDocument]]:
            retrieved = await self._services.search.search(query, deadline=step)
            titled = sorted(retrieved.documents, key=lambda hit: (-(hit.title_score or 0.0), hit.document_id))
            ids = [hit.document_id for hit in titled[:REVIEWS_READ]]
            read = await self._services.search.read_documents(ids, labels=call.labels, deadline=step)
            item_id = item.card.item.item_id if item.card.item is not None else ""
            reviews = [
                review for review in read.values() if review.card.item and review.card.item.item_id == item_id
            ]
            cosines = {hit.document_id: hit.cosine for hit in retrieved.hits if hit.cosine is not None}
            return [(_worth(review, cosines.get(review.card.document_id, 0.0)), review) for review in reviews]

        late = SearchUnavailableError(f"The source {source.name} took over {source.search_limit_s:g} s.")
        try:
            return await call_within(source.search_limit_s, read, deadline=call.deadline, late=late)
        except (SearchUnavailableError, DeadlineExceededError) as error:
            _log.warning("reviews_left_out", source=source.name, code=error.code)
            return []
