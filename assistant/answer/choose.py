"""Chooses the section of a document to show, whole and as it stands.

A unit is a sentence, step, list item or row of a table. The units' scores give each a probability to hold the
answer. A *run* is some units in a row, of a limited number of words; the run with the highest summed
probability chooses the section, which is shown from its beginning to its end: a step that is left out may be
the one that keeps a patient safe. Where a second run, outside that section, has a high probability too, its
section is shown as well. The likeliest units of the first run are *keys*, which a page marks. Units far from
the keys, and from the likeliest unit of the second run, may be folded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from assistant.answer.adaptations import Adaptations
from assistant.answer.excerpts import shown_heading
from assistant.answer.offers import Offered
from assistant.answer.rank import RankDocuments, Ranked
from assistant.answer.rows import Row, differing, with_titles
from assistant.answer.scores import CosineScale, ScoredUnit, UnitVectors, shares
from assistant.answer.services import TenantServices
from assistant.answer.sources import EvidenceQuery, SearchScope
from assistant.domain.documents import StoredDocument, Unit, UnitKind
from assistant.domain.errors import AssistantError, DeadlineExceededError
from assistant.text.language import WORD, fold, word_groups

_KEY_SHARE, _MOST_KEYS = 0.2, 3
"""Units of a run with at least this probability are keys, at most so many, and the likeliest always."""
_LIKE_ROWS = 0.7
"""Where the likeliest unit is a row, rows are keys from this share of its probability: the question hardly
tells them apart, and one mark alone would say which one holds."""
_LIKELY_BESIDE = 0.25
"""A row that the question does not name is shown from this share of the likeliest named row's probability."""
_BELOW = " > "
"""Between the headings of a path: "Refills > By mail"."""
_EDGE_SHARE = 0.01
"""Units at the edges of a run with less probability than this only make it longer."""
_ALSO_FROM = 0.3
"""Another section is shown from this share of the likeliest run's probability. With 0.2 more answers are
right, but more of them state the other branch of a condition (docs/decisions/0029)."""
_LONGEST_SECTION_CHARACTERS = 24_000
"""As long as a model's text may be (``check.MOST_CHARACTERS``). Of a longer section, such as a table of
thousands of rows, the run alone is shown."""
_BLANK_LINE = 2
"""Characters between two paragraphs of a stored text."""
_PROSE = (UnitKind.SENTENCE, UnitKind.DEFINITION)
_NEGATIONS = word_groups("en_marks")["negation"]
_SHORTEST_IN_CAPITALS = 4
"""Letters of a word in capitals that stresses its line; shorter ones are abbreviations."""


@dataclass(frozen=True, slots=True)
class Section:
    """Units of one document that answer a question, in document order: of one section, or of two."""

    document: StoredDocument
    units: tuple[ScoredUnit, ...]
    mass: float
    """Probability that the answer is in these units, if the document has it."""
    keys: frozenset[int] = frozenset()
    """Ordinals of the units that a page marks; empty where that would be all of them."""
    folded: frozenset[int] = frozenset()
    """Ordinals of the units that a page may fold. Never folded: the keys, the lines beside them, the units
    that introduce these, the section's first line, and warnings."""

    @property
    def document_id(self) -> str:
        return self.document.card.document_id

    @property
    def ordinals(self) -> frozenset[int]:
        return frozenset(scored.unit.ordinal for scored in self.units)


def choose(
    document: StoredDocument,
    units: Sequence[ScoredUnit],
    *,
    max_words: int,
    also_words: int = 0,
    rows: Sequence[Row] = (),
) -> Section | None:
    """Return the section that holds the document's likeliest run of at most ``max_words``, headings counted;
    None for a document without units.

    ``units``: all of the document, scored, in order. ``also_words``: longest run outside that section, whose
    section is shown too; 0: no second section. ``rows``: rows of tables that the question names
    (``rows_about``). Where the run has one of them, or its likeliest unit is a row, other rows are left out.

    Example: a procedure of five steps, of which the third answers::

        section = choose(document, scorer.score(asked, document, passage_cosines={}), max_words=160)
        section.units  # the five steps
        section.keys  # {12}: ordinal of the third
        section.folded  # {14}: ordinal of the fifth; the first, second and fourth stay open
    """
    if not units:
        return None
    likely = shares(units)
    run = _likeliest_run(units, likely, range(len(units)), max_words=max_words)
    # ``run``, ``section``, ``shown`` and ``also`` are places in ``units``; keys and rows are ordinals
    section, mass = _whole(units, run), _mass(likely, run)
    shown: Collection[int] = section
    also_open = set[int]()  # the likeliest unit of the second run: not folded, and no key
    likeliest = sorted(run, key=lambda at: (-round(likely[at], 4), at))[:_MOST_KEYS]
    is_row, least_row = units[likeliest[0]].unit.kind is UnitKind.ROW, _LIKE_ROWS * likely[likeliest[0]]
    keys = {
        units[at].unit.ordinal
        for at in likeliest
        if likely[at] >= _KEY_SHARE
        or (is_row and units[at].unit.kind is UnitKind.ROW and likely[at] >= least_row)
    }
    keys.add(units[likeliest[0]].unit.ordinal)
    named = {row.unit.ordinal for row in rows if row.is_most}
    if not named and also_words:
        also = _run_around(units, likely, section, max_words=also_words)
        if (also_mass := _mass(likely, also)) >= _ALSO_FROM * mass:
            shown, mass = {*section, *_whole(units, also)}, mass + also_mass
            also_open.add(units[max(also, key=lambda at: (round(likely[at], 4), -at))].unit.ordinal)
    chosen = [units[at] for at in sorted(shown)]
    if named and (is_row or not named.isdisjoint(units[at].unit.ordinal for at in run)):
        lesser = {row.unit.ordinal for row in rows} - named
        chosen, keys = _with_named_rows(units, likely, section, named=named, lesser=lesser), named
    if len(keys) == len(chosen):
        keys.clear()
    folded = _folded(chosen, keys | also_open) if keys else frozenset[int]()
    return Section(document, tuple(chosen), mass, frozenset(keys), folded)


def _with_named_rows(
    units: Sequence[ScoredUnit], likely: Sequence[float], section: range, *, named: set[int], lesser: set[int]
) -> list[ScoredUnit]:
    """Return the section's units without the rows of tables that the question neither names nor, by their
    probability, means; with the rows that it names elsewhere in the document.

    ``named``: ordinals of the rows that the question names. ``lesser``: ordinals of rows that it names too,
    but less than one of ``named`` (``Row.is_most`` false): left out although they may be likely."""
    least = _LIKELY_BESIDE * max(
        share for scored, share in zip(units, likely, strict=True) if scored.unit.ordinal in named
    )
    inside = [(units[at].unit, likely[at]) for at in section]
    meant = {unit.ordinal for unit, share in inside if share >= least and len(unit.cells) > 1} - lesser
    kept = with_titles(units, named | meant)
    kept |= {unit.ordinal for unit, _ in inside if unit.kind is not UnitKind.ROW}
    return [scored for scored in units if scored.unit.ordinal in kept]


def of_rows(document: StoredDocument, units: Sequence[ScoredUnit], rows: Sequence[Row]) -> Section:
    """Return these rows of a document with the titles above them."""
    kept = with_titles(units, [row.unit.ordinal for row in rows])
    return Section(document, tuple(scored for scored in units if scored.unit.ordinal in kept), 0.0)


def _whole(units: Sequence[ScoredUnit], run: range) -> range:
    """Return the places from the beginning of the section of the run's first unit to the end of that of its
    last; the run itself where these are too long to show."""
    if not run:
        return run
    with_steps = {unit.unit.heading for unit in units if unit.unit.kind is UnitKind.STEP}
    begin, above = run[0], _section_of(units[run[0]].unit, with_steps)
    while begin > 0 and _is_under(units[begin - 1].unit, above):
        begin -= 1
    end, above = run[-1], _section_of(units[run[-1]].unit, with_steps)
    while end + 1 < len(units) and _is_under(units[end + 1].unit, above):
        end += 1
    length = sum(len(unit.unit.text) for unit in units[begin : end + 1])
    return range(begin, end + 1) if length <= _LONGEST_SECTION_CHARACTERS else run


def _section_of(unit: Unit, with_steps: Collection[str]) -> str:
    """Return the heading path of the unit's section: its own, or the highest one above it that has steps, for
    what is below the heading of a procedure is part of it. ``with_steps``: paths of units that are steps."""
    names = unit.heading.split(_BELOW)
    above = (_BELOW.join(names[:depth]) for depth in range(1, len(names)))
    return next((heading for heading in above if heading in with_steps), unit.heading)


def _is_under(unit: Unit, heading: str) -> bool:
    return unit.heading == heading or (heading != "" and unit.heading.startswith(heading + _BELOW))


def _folded(units: Sequence[ScoredUnit], keys: Collection[int]) -> frozenset[int]:
    """Return the ordinals of the units that a page may fold, as ``Section.folded`` says. ``keys``:
    ordinals."""
    marked = [at for at, unit in enumerate(units) if unit.unit.ordinal in keys]
    opened = {0, *(near for at in marked for near in (at - 1, at, at + 1))}
    is_listed = any(unit.unit.kind not in _PROSE for unit in units)
    parents = {units[at].unit.parent for at in opened if 0 <= at < len(units)}
    return frozenset(
        unit.unit.ordinal
        for at, unit in enumerate(units)
        if at not in opened
        and unit.unit.ordinal not in parents
        and not (is_listed and unit.unit.kind in _PROSE)  # a note between steps
        and not _warns(unit.unit.text)
    )


def _warns(text: str) -> bool:
    """Return whether a line forbids, excludes or stresses something."""
    is_stressed = "!" in text or any(
        word.isupper() and len(word) >= _SHORTEST_IN_CAPITALS for word in WORD.findall(text)
    )
    return is_stressed or any(word in _NEGATIONS or word.endswith("n't") for word in WORD.findall(fold(text)))


def _mass(likely: Sequence[float], run: range) -> float:
    return sum(likely[at] for at in run)


def _run_around(
    units: Sequence[ScoredUnit], likely: Sequence[float], section: range, *, max_words: int
) -> range:
    """Return the likeliest run that lies wholly before or wholly after a section; it may be empty."""
    around = (range(section.start), range(section.stop, len(units)))
    runs = [_likeliest_run(units, likely, places, max_words=max_words) for places in around]
    return max(runs, key=lambda run: round(_mass(likely, run), 4))


def _likeliest_run(
    units: Sequence[ScoredUnit], likely: Sequence[float], places: range, *, max_words: int
) -> range:
    """Return the run with the highest summed probability among these places, of at most ``max_words``, each
    heading counted once; a single unit may have more."""
    words_of = [unit.words for unit in units]
    words_of_heading = {
        unit.unit.heading: len(unit.unit.heading.replace(" > ", " ").split()) for unit in units
    }
    best_mass, run = -1.0, places[:1]
    for first in places:
        words, mass, headings = 0, 0.0, set[str]()
        for last in range(first, places.stop):
            heading = units[last].unit.heading
            words += words_of[last]
            if heading not in headings:
                headings.add(heading)
                words += words_of_heading[heading]
            if words > max_words and last > first:
                break
            mass += likely[last]
            if round(mass, 4) > round(best_mass, 4):
                best_mass, run = mass, range(first, last + 1)
    return _without_edges(units, likely, run)


def _without_edges(units: Sequence[ScoredUnit], likely: Sequence[float], run: range) -> range:
    """Return a run without the units at its edges that only make it longer."""
    while len(run) > 1 and likely[run[0]] < _EDGE_SHARE:
        if units[run[1]].unit.parent == units[run[0]].unit.ordinal:
            break  # it introduces the next one, which makes no sense without it
        run = run[1:]
    while len(run) > 1 and likely[run[-1]] < _EDGE_SHARE:
        run = run[:-1]
    return run


def blocks(section: Section) -> Iterator[tuple[str, ScoredUnit]]:
    """Yield (Markdown before the unit's text, unit) for each unit of a section.

    Example: the heading "By mail" with two steps yields ("**By mail**\\n\\n", first), ("\\n", second).
    """
    heading: str | None = None
    previous: ScoredUnit | None = None
    for unit in section.units:
        before = "" if previous is None else "\n\n"
        if unit.unit.heading != heading:
            heading = unit.unit.heading
            before += f"**{shown_heading(heading)}**\n\n" if heading else ""
        elif previous is not None and _continues(previous.unit, unit.unit):
            before = " " if unit.unit.kind is UnitKind.SENTENCE else "\n"
        yield before + _marker(unit.unit), unit
        previous = unit


def _marker(unit: Unit) -> str:
    """Return the list marker of a unit that has none in its own text."""
    is_listed = unit.kind in (UnitKind.ROW, UnitKind.DEFINITION) or (
        unit.kind is UnitKind.ITEM and not unit.text.startswith(("- ", "* ", "• "))
    )
    return "- " if is_listed else ""


def _continues(before: Unit, unit: Unit) -> bool:
    """Return whether two units are in one paragraph, list or table. Between paragraphs is a blank line."""
    if unit.kind is UnitKind.SENTENCE:
        return before.kind is UnitKind.SENTENCE and unit.span.start - before.span.end < _BLANK_LINE
    return before.kind is unit.kind


# What is shown for one question


DOCUMENTS_EMBEDDED = 5
"""So many of the best documents by their words get vectors for their likeliest units."""
_CONTENDS_WITHIN = 2.0
"""Largest difference of scores at which the second document is shown as "also possible"."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the knowledge base has for one question."""

    ranked: Ranked
    """The documents; after ``ChooseSection.run`` in the order that their units give."""
    offered: tuple[Offered, ...]
    """What options have: in place of the section, or beside it."""
    section: Section | None = None
    """Of the best document. It is set also where the gate found nothing near, for evaluation: ``is_found``
    says whether it may be shown."""
    also: Section | None = None
    """Of the second document, where its score is near the best one's."""
    differing: tuple[Section, ...] = ()
    """Rows of other documents that contradict a row of the section: the same thing with another value."""

    @property
    def query(self) -> EvidenceQuery:
        return self.ranked.query

    @property
    def answer(self) -> Offered | None:
        """What answers by itself in place of the section, so that no model needs to write."""
        return next((offered for offered in self.offered if offered.answers), None)

    @property
    def refusal(self) -> str:
        """Why what the question asks for is not there; no section takes its place."""
        return next((offered.refusal for offered in self.offered if offered.refusal), "")

    @property
    def is_found(self) -> bool:
        """Whether there is something to show without a model: what an option offers, or a section that is
        near."""
        if self.answer is not None:
            return True
        return self.ranked.gate.passed and self.section is not None and not self.refusal

    @property
    def is_undisputed(self) -> bool:
        """Whether a section is found, and no other document contends with its own.

        Then its document is the right one for 93 and 96 % of the answerable questions of the held-out halves
        (pharmacy, clinic), else for 49 and 61 %.
        """
        return self.is_found and self.also is None and not self.differing and self.answer is None


class ChooseSection:
    """Chooses what is shown of the documents of one tenant.

    Example::

        evidence = await choose.run(ranked, scope)
        evidence.section.units[0].unit.text  # "Retail refills are payable on day 23 of 30."
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, rank: RankDocuments) -> None:
        self._adaptations, self._rank = adaptations, rank
        self._unit_vectors = UnitVectors(
            services.embedder, limit_s=services.tenant.limits.embedding_timeout_s
        )
        self._cosines = CosineScale.of(services.tenant.embedding)

    async def run(self, ranked: Ranked, scope: SearchScope) -> Evidence:
        """Embed the likeliest units, rank the documents that were read by them, and choose the best one's
        section, or what an option has in its place.

        Without the embedding endpoint units go by their words, and ``scope.degraded`` says so. Raises
        DeadlineExceededError; SearchUnavailableError, where an option reads more.
        """
        if ranked.best is None:
            return Evidence(ranked, ranked.hits.offered)
        with scope.steps.step("units"):
            cosines = await self._cosines_of_units(ranked, scope)
        with scope.steps.step("choose"):
            order = self._rank.by_units(ranked, cosines)
            scored = {
                name: self._rank.scorer.score_again(units, cosines.get(name, {}))
                for name, units in ranked.scored.items()
            }
            evidence = self._with_sections(replace(ranked, order=order, scored=scored))
        return await self._reconsidered(evidence, scope)

    async def _cosines_of_units(
        self, ranked: Ranked, scope: SearchScope
    ) -> Mapping[str, Mapping[int, float]]:
        """Return by document id the cosine of each embedded unit with the question, by ordinal; empty where
        the embedding endpoint failed."""
        best = ranked.by_words[:DOCUMENTS_EMBEDDED]
        wanted = [(document.card, ranked.scored[document.card.document_id]) for document in best]
        try:
            raw = await self._unit_vectors.cosines(ranked.query.vector, wanted, deadline=scope.deadline)
        except DeadlineExceededError:
            raise
        except AssistantError:
            scope.degraded.append("vectors of units")
            return {}
        return {
            name: {ordinal: self._cosines.value(cosine) for ordinal, cosine in units.items()}
            for name, units in raw.items()
        }

    def _with_sections(self, ranked: Ranked) -> Evidence:
        """Choose the best document's section, that of a second document whose score is near, and rows of
        others that contradict it."""
        best, *others = ranked.read
        evidence, query, also = Evidence(ranked, ranked.hits.offered), ranked.query, None
        rows = self._rank.rows(best, ranked)
        section = choose(
            best,
            ranked.scored[best.card.document_id],
            max_words=query.max_words,
            also_words=query.also_words,
            rows=rows,
        )
        contends = bool(others) and ranked.order[0].score - ranked.order[1].score <= _CONTENDS_WITHIN
        if contends and evidence.answer is None and not evidence.refusal:
            second, units = others[0], ranked.scored[others[0].card.document_id]
            also = choose(second, units, max_words=query.also_words, rows=self._rank.rows(second, ranked))
        differ = self._differing(section, rows, others, ranked) if section is not None else ()
        return replace(evidence, section=section, also=also, differing=differ)

    def _differing(
        self, section: Section, named: Sequence[Row], others: Sequence[StoredDocument], ranked: Ranked
    ) -> tuple[Section, ...]:
        """Return the rows of other documents that give the thing of a shown row another value.

        ``named``: rows of the section's document that the question names. Words of the question that stand in
        the title or heading above these rows say what they are about ("mail order"): a document without one
        of them is about something else.
        """
        shown, scorer = section.ordinals, self._rank.scorer
        rows = [row for row in named if row.unit.ordinal in shown]
        above = scorer.stems("\n".join((section.document.card.title, *(row.unit.heading for row in rows))))
        topics = [term.forms for term in ranked.asked.terms if term.forms & above]
        differ: list[Section] = []
        for other in others if rows else ():
            units, other_rows = ranked.scored[other.card.document_id], self._rank.rows(other, ranked)
            stems = scorer.stems_of(other, units)
            if (contrary := differing(rows, other_rows)) and all(forms & stems for forms in topics):
                differ.append(of_rows(other, units, contrary))
        return tuple(differ)

    async def _reconsidered(self, evidence: Evidence, scope: SearchScope) -> Evidence:
        """Return the evidence with what the first option has in place of the section, once one is found."""
        if not evidence.is_found or evidence.answer is not None:
            return evidence
        ranked = evidence.ranked
        for offer in self._adaptations.offers:
            offered = await offer.reconsider(evidence.query, scope, read=ranked.documents, ranked=ranked.read)
            if offered is not None:
                return replace(evidence, offered=(*evidence.offered, offered), also=None)
        return evidence
