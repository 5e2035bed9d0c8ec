"""Chooses the section of a document to show, whole and as it stands, and composes it as a quote.

A unit is a sentence, step, list item or row of a table. The units' scores give each a probability to hold the
answer. A *run* is some units in a row, of a limited number of words; the run with the highest summed
probability chooses the section, which is shown from its beginning to its end: a step that is left out may be
the one that keeps a patient safe. Where a second run, outside that section, has a high probability too, its
section is shown as well. The likeliest units of the first run are *keys*, which a page marks. What is
likeliest stands first; the rest of the sections may be folded below it.

``ChooseSection`` chooses for one question; ``MakeQuote`` composes what is shown for all, as blocks to stream,
each noted among the answer's excerpts. A written answer needs of it the numbered sources, the section to read
while the model writes, and the quote as a fallback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from math import exp, log1p

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall
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
from assistant.answer.find import KEPT_CANDIDATES, NEAR_ROW_COVERAGE, Finding, RankByUnits, SourceList
from assistant.answer.message import PartQuery
from assistant.answer.offers import Cite, Offered, QuotedBlock
from assistant.answer.prompt import Prompt
from assistant.answer.rows import Row, with_titles
from assistant.answer.scores import (
    INDEX_FEATURES,
    CosineScale,
    ScoredUnit,
    UnitVectors,
    shares,
    shipped_weights,
)
from assistant.answer.services import TenantServices
from assistant.domain.answers import AlsoPossible, Cell, OfferedAnswer, ShownAs, Source, SourceFacts, TableRow
from assistant.domain.documents import (
    DocumentCard,
    Passage,
    RankedPassage,
    StoredDocument,
    Unit,
    UnitKind,
)
from assistant.domain.errors import AssistantError, DeadlineExceededError
from assistant.domain.identity import Identity
from assistant.text.codes import unknown_codes
from assistant.text.language import WORD, fold, word_groups
from assistant.text.safe_markdown import inert, safe_markdown

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
_FIRST_WORDS = 75
"""Words that stand before the fold where no list is longer: with the warnings below them the median is 75 for
444 right sections of questions for tuning, and the answering line is among them for 87 %."""
_LEAST_FIRST = 0.02
"""Share of the likeliest unit's probability below which a unit is folded though it would fit."""
_LEAST_FOLDED_WORDS = 20
"""Fewer words are not folded: a fold takes as much room."""
_NEGATIONS = word_groups("en_marks")["negation"]
_SHORTEST_IN_CAPITALS = 4
"""Letters of a word in capitals that stresses its line; shorter ones are abbreviations."""
DOCUMENTS_EMBEDDED = 5
"""So many of the best documents by their words get vectors for their likeliest units."""
_NO_OTHER = 10.0
"""Margin where no second document was found, and the largest margin that counts."""
NEAR_FEATURES = (
    *INDEX_FEATURES,
    *("index", "best_unit", "best_units", "mass", "coverage", "names", "unit_cosine", "unit_cosines"),
    *("margin", "cosine", "section_mass", "undisputed", "words"),
)
"""Features of the weights file ``near``, in their order."""
_LEAST_CERTAIN = 0.47
"""Probability below which a section is only near."""
_CONTENDS_WITHIN = 2.0
"""Largest difference of scores at which the second document is shown as "also possible"."""


@dataclass(frozen=True, slots=True)
class Section:
    """Units of one document that answer a question, of one section, or of two."""

    document: StoredDocument
    units: tuple[ScoredUnit, ...]
    """Those that answer in document order, then the ``folded`` ones in document order."""
    mass: float
    """Probability that the answer is in these units, if the document has it."""
    keys: frozenset[int] = frozenset()
    """Ordinals of the units that a page marks; empty where that would be all of them."""
    folded: frozenset[int] = frozenset()
    """Ordinals of the units that a page may fold: all but what ``_first`` chooses."""

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
        section.folded  # set(): steps are never torn
    """
    if not units:
        return None
    likely = shares(units)
    run = _likeliest_run(units, likely, range(len(units)), max_words=max_words)
    # ``run``, ``section``, ``shown`` and ``also`` are places in ``units``; keys and rows are ordinals
    section, mass = _whole(units, run), _mass(likely, run)
    shown: Collection[int] = section
    likeliest = sorted(run, key=lambda at: (-round(likely[at], 4), at))[:_MOST_KEYS]
    is_row, highest = units[likeliest[0]].unit.kind is UnitKind.ROW, likely[likeliest[0]]
    keys = {
        units[at].unit.ordinal
        for at in likeliest
        if likely[at]
        >= min(_KEY_SHARE, highest * (_LIKE_ROWS if is_row and units[at].unit.kind is UnitKind.ROW else 1.0))
    }
    named = {row.unit.ordinal for row in rows if row.is_most}
    if not named and also_words:
        also = _run_around(units, likely, section, max_words=also_words)
        if (also_mass := _mass(likely, also)) >= _ALSO_FROM * mass:
            shown, mass = {*section, *_whole(units, also)}, mass + also_mass
    chosen = [units[at] for at in sorted(shown)]
    if named and (is_row or not named.isdisjoint(units[at].unit.ordinal for at in run)):
        lesser = {row.unit.ordinal for row in rows} - named
        chosen, keys = _with_named_rows(units, likely, section, named=named, lesser=lesser), named
    if len(keys) == len(chosen):
        keys.clear()
    first = _first(chosen, keys)
    folded = [scored for scored in chosen if scored.unit.ordinal not in first]
    if sum(scored.words for scored in folded) < _LEAST_FOLDED_WORDS:
        folded = []
    ordinals = frozenset(scored.unit.ordinal for scored in folded)
    in_order = sorted(chosen, key=lambda scored: scored.unit.ordinal in ordinals)
    return Section(document, tuple(in_order), mass, frozenset(keys), ordinals)


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


def _first(units: Sequence[ScoredUnit], keys: Collection[int]) -> set[int]:
    """Return the ordinals of the units that stand first: the ``keys``, and from the likeliest on those that
    fit into _FIRST_WORDS; with each the units that it needs (``_needed``), and a warning just below.

    ``units``: in document order."""
    ordinals = [scored.unit.ordinal for scored in units]
    words = {scored.unit.ordinal: scored.words for scored in units}
    first, likely = set[int](), shares(units)
    least = _LEAST_FIRST * max(likely)
    for at in sorted(range(len(units)), key=lambda at: (ordinals[at] not in keys, -round(likely[at], 4), at)):
        needed = first | _needed(units, at)
        fits = sum(words[ordinal] for ordinal in needed) <= _FIRST_WORDS and likely[at] >= least
        if not first or ordinals[at] in keys or fits:
            first = needed
    return first | {
        unit.ordinal
        for (above, unit) in pairwise(scored.unit for scored in units)
        if above.ordinal in first and above.heading == unit.heading and _warns(unit.text)
    }


def _needed(units: Sequence[ScoredUnit], at: int) -> set[int]:
    """Return the ordinals of the units without which the one at this place is torn out: itself, all steps of
    its list, and the units that introduce them."""
    begin = end = at
    if units[at].unit.kind is UnitKind.STEP:
        heading, introduced = units[at].unit.heading, {units[at].unit.ordinal}

        def is_of_list(unit: Unit) -> bool:
            return unit.heading == heading and (unit.kind is UnitKind.STEP or unit.parent in introduced)

        while begin > 0 and is_of_list(units[begin - 1].unit):
            begin -= 1
            introduced.add(units[begin].unit.ordinal)
        while end + 1 < len(units) and is_of_list(units[end + 1].unit):
            end += 1
            introduced.add(units[end].unit.ordinal)
    needed = {scored.unit.ordinal for scored in units[begin : end + 1]}
    parents = {scored.unit.parent for scored in units[begin : end + 1]}
    return needed | {scored.unit.ordinal for scored in units if scored.unit.ordinal in parents}


def _warns(text: str) -> bool:
    """Return whether a line forbids, excludes or stresses something."""
    words = WORD.findall(text)
    is_stressed = "!" in text or any(len(word) >= _SHORTEST_IN_CAPITALS and word.isupper() for word in words)
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
    best_mass, run = -1.0, places[:1]
    for first in places:
        words, mass, headings = 0, 0.0, set[str]()
        for last in range(first, places.stop):
            heading = units[last].unit.heading
            words += words_of[last]
            if heading not in headings:
                headings.add(heading)
                words += len(heading.replace(_BELOW, " ").split())
            if words > max_words and last > first:
                break
            mass += likely[last]
            if mass > best_mass and (rounded := round(mass, 4)) > best_mass:
                best_mass, run = rounded, range(first, last + 1)
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
        is_next = 0 <= unit.span.start - before.span.end < _BLANK_LINE
        return before.kind is UnitKind.SENTENCE and is_next
    return before.kind is unit.kind


# What is shown for one question


@dataclass(frozen=True, slots=True)
class PartQuote:
    """What is shown for one question of a message. ``ChooseSection`` makes it."""

    finding: Finding
    """As it was found, with ``order`` and ``scored`` by the vectors of the units."""
    offered: tuple[Offered, ...]
    """What options have: in place of the section, or beside it."""
    section: Section | None = None
    """Of the best document."""
    also: Section | None = None
    """Of the second document, where its score is near the best one's."""
    differing: tuple[Section, ...] = ()
    """Rows of other documents that contradict a row of the section: the same thing with another value."""
    has_named_row: bool = False
    """Whether a row of the section's document holds much of the question: then it is not in doubt."""
    unknown_codes: tuple[str, ...] = ()
    """Codes of the question that no line of the section has, as the question writes them."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out because they failed or were late."""

    @property
    def query(self) -> PartQuery:
        return self.finding.query

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
        """Whether there is something to show without a model: what an option offers, or a section."""
        return self.answer is not None or (self.section is not None and not self.refusal)

    @property
    def is_near(self) -> bool:
        """Whether the section is only the nearest one: it may answer something else. See _LEAST_CERTAIN."""
        is_section = self.is_found and self.answer is None and not self.has_named_row
        return is_section and (bool(self.unknown_codes) or self.probability < _LEAST_CERTAIN)

    @property
    def features(self) -> dict[str, float]:
        """What tells a right section from a wrong one (NEAR_FEATURES): the features of its document, and

        ``margin``: score above that of the second document. ``cosine``: best cosine with the question.
        ``section_mass``: share of the question's weight that the section has. ``undisputed``: 1.0 if no other
        document contends. ``words``: log(1 + words of the question).
        """
        order, section = self.finding.order, self.section
        best, second = order[0], next(iter(order[1:]), None)
        margin = _NO_OTHER if second is None else best.score - second.score
        return {
            **best.features,
            "margin": min(margin, _NO_OTHER),
            "cosine": self.finding.gate.best_cosine,
            "section_mass": 0.0 if section is None else section.mass,
            "undisputed": float(self.is_undisputed),
            "words": log1p(len(self.query.question.split())),
        }

    @property
    def probability(self) -> float:
        """The probability that the section's document answers the question (``make fit ARGS=near``)."""
        return 1.0 / (1.0 + exp(-shipped_weights("near").score(self.features)))

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

        part = await choose.run(finding, call)
        part.section.units[0].unit.text  # "Retail refills are payable on day 23 of 30."
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, by_units: RankByUnits) -> None:
        self._adaptations, self._by_units = adaptations, by_units
        self._unit_vectors = UnitVectors(
            services.embedder, limit_s=services.tenant.limits.embedding_timeout_s
        )
        self._cosines = CosineScale.of(services.tenant.embedding)

    async def run(self, finding: Finding, call: AnswerCall) -> PartQuote:
        """Embed the likeliest units, rank the documents that were read by them, and choose the best one's
        section, or what an option has in its place. A question that leans on words above gets none.

        Without the embedding endpoint units go by their words, and ``PartQuote.degraded`` says so. Raises
        DeadlineExceededError; SearchUnavailableError, where an option reads more.
        """
        if finding.best is None or finding.query.leans:
            return PartQuote(finding, finding.offered)
        with call.steps.step("units"):
            cosines = await self._cosines_of_units(finding, call)
        with call.steps.step("choose"):
            order = self._by_units.order(finding, cosines or {})
            scored = {
                name: self._by_units.scorer.score_again(units, (cosines or {}).get(name, {}))
                for name, units in finding.scored.items()
            }
            part = self._with_sections(replace(finding, order=order, scored=scored))
        if cosines is None:
            part = replace(part, degraded=("vectors of units",))
        return await self._reconsidered(part, call)

    async def _cosines_of_units(
        self, finding: Finding, call: AnswerCall
    ) -> Mapping[str, Mapping[int, float]] | None:
        """Return by document id the cosine of each embedded unit with the question, by ordinal; None where
        the embedding endpoint failed."""
        best = finding.by_words[:DOCUMENTS_EMBEDDED]
        wanted = [(document.card, finding.scored[document.card.document_id]) for document in best]
        try:
            raw = await self._unit_vectors.cosines(finding.query.vector, wanted, deadline=call.deadline)
        except DeadlineExceededError:
            raise
        except AssistantError:
            return None
        return {
            name: {ordinal: self._cosines.value(cosine) for ordinal, cosine in units.items()}
            for name, units in raw.items()
        }

    def _with_sections(self, finding: Finding) -> PartQuote:
        """Choose the best document's section, that of a second document whose score is near, and rows of
        others that contradict it."""
        best, *others = finding.read
        part, query, also = PartQuote(finding, finding.offered), finding.query, None
        rows = self._by_units.rows(best, finding)
        section = choose(
            best,
            finding.scored[best.card.document_id],
            max_words=query.max_words,
            also_words=query.also_words,
            rows=rows,
        )
        contends = bool(others) and finding.order[0].score - finding.order[1].score <= _CONTENDS_WITHIN
        if contends and part.answer is None and not part.refusal:
            second, units = others[0], finding.scored[others[0].card.document_id]
            also = choose(
                second, units, max_words=query.also_words, rows=self._by_units.rows(second, finding)
            )
        differ = self._differing(section, rows, others, finding) if section is not None else ()
        shown = [scored.unit for scored in section.units] if section is not None else []
        read = (scored.unit for units in finding.scored.values() for scored in units)
        unknown = unknown_codes(finding.asked.codes, best.card.title, shown, read)
        has_row = any(row.coverage >= (1.0 if unknown else NEAR_ROW_COVERAGE) for row in rows)
        return replace(
            part, section=section, also=also, differing=differ, has_named_row=has_row, unknown_codes=unknown
        )

    def _differing(
        self, section: Section, named: Sequence[Row], others: Sequence[StoredDocument], finding: Finding
    ) -> tuple[Section, ...]:
        """Return the rows of other documents that give the thing of a shown row another value.

        ``named``: rows of the section's document that the question names. Words of the question that stand in
        the title or heading above these rows say what they are about ("mail order"): a document without one
        of them is about something else.
        """
        shown, scorer = section.ordinals, self._by_units.scorer
        rows = [row for row in named if row.unit.ordinal in shown and not section.document.card.not_in_force]
        above = scorer.stems("\n".join((section.document.card.title, *(row.unit.heading for row in rows))))
        topics = [term.forms for term in finding.asked.terms if term.forms & above]
        differ: list[Section] = []
        for other in (each for each in others if rows and not each.card.not_in_force):
            units, other_rows = finding.scored[other.card.document_id], self._by_units.rows(other, finding)
            stems = scorer.words_of(other).stems
            contrary = [each for each in other_rows if any(row.differs_from(each) for row in rows)]
            if contrary and all(forms & stems for forms in topics):
                differ.append(of_rows(other, units, contrary))
        return tuple(differ)

    async def _reconsidered(self, part: PartQuote, call: AnswerCall) -> PartQuote:
        """Return the part with what the first option has in place of the section, once one is found."""
        if not part.is_found or part.answer is not None:
            return part
        finding = part.finding
        for offer in self._adaptations.offers:
            offered = await offer.reconsider(part.query, call, read=finding.documents, ranked=finding.read)
            if offered is not None:
                return replace(part, offered=(*part.offered, offered), also=None)
        return part


# What is shown for all questions


NEAREST = "**Nothing certain.** Nearest:"
UNKNOWN = "No line shown here has"
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

    parts: tuple[PartQuote, ...]
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
    """Sections of second documents whose score is near the best one's (``PartQuote.also``)."""
    section: AlsoPossible | None = None
    """The first question's section."""
    offered: OfferedAnswer | None = None
    """An approved answer to a near question."""

    @property
    def answered(self) -> frozenset[int]:
        """Index of each question for which something is shown without a model."""
        return frozenset(at for at, part in enumerate(self.parts) if part.is_found)

    @property
    def is_near(self) -> bool:
        """Whether what is shown of documents is only near, for each question."""
        shown = [part for part in self.parts if part.is_found]
        return bool(shown) and all(part.is_near for part in shown)

    @property
    def elements(self) -> list[str]:
        """Names of the live elements that its units name, in their order."""
        return [name for block in self.blocks for name, _, _ in block.elements]

    @property
    def degraded(self) -> tuple[str, ...]:
        """Steps that were left out because they failed or were late."""
        return tuple(chain.from_iterable(part.degraded for part in self.parts))

    def without_scores(self) -> Quote:
        """Return it without what neither the stream nor the record reads: this frees some 0.4 MB for the time
        that the answer streams."""
        slim = (
            replace(
                part,
                finding=replace(
                    part.finding,
                    order=part.finding.order[:KEPT_CANDIDATES],
                    scored={},
                    retrieved=replace(part.finding.retrieved, passages=(), hits=(), documents=()),
                ),
            )
            for part in self.parts
        )
        return replace(self, parts=tuple(slim))


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

        quote = await MakeQuote(services, adaptations, by_units).run(findings, None, identity, call)
        quote.blocks  # to stream; each cites a number of quote.sources
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, by_units: RankByUnits) -> None:
        self._services = services
        self.choose = ChooseSection(services, adaptations, by_units)
        self._stems = by_units.scorer.stems

    async def run(
        self,
        findings: Sequence[Finding],
        prompt: Prompt | None,
        identity: Identity,
        call: AnswerCall,
        *,
        of_systems: Collection[int] = (),
    ) -> Quote:
        """Choose the sections and return the quote. ``prompt``: what a model reads; the quote keeps the
        numbers of its sources and adds its own. None: no model writes. ``identity``: whose links it has.
        ``of_systems``: indexes of the questions that a live system is asked: no section that is only near
        stands beside its value.

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        parts = await asyncio.gather(*(self.choose.run(finding, call) for finding in findings))
        parts = [
            replace(part, section=None, also=None) if at in of_systems and part.is_near else part
            for at, part in enumerate(parts)
        ]
        numbers = SourceList() if prompt is None else SourceList(prompt.sources)
        with call.steps.step("compose") as span:
            quote = self._compose(tuple(parts), numbers, is_written=prompt is not None)
            span.set_attribute("assistant.found", bool(quote.answered))
        return self._with_sources(quote, numbers, identity)

    def of_prompt(self, findings: Sequence[Finding], prompt: Prompt, identity: Identity) -> Quote:
        """Return the sources of the prompt alone, for an answer that was cancelled before it began."""
        parts = tuple(PartQuote(finding, finding.offered) for finding in findings)
        return self._with_sources(Quote(parts), SourceList(prompt.sources), identity)

    def _compose(self, parts: tuple[PartQuote, ...], numbers: SourceList, *, is_written: bool) -> Quote:
        """Return the quote without its sources, which it numbers. ``is_written``: a model writes, so a
        section is taken also where an option refuses."""
        composing = _Composing(numbers)
        answering = [part for part in parts if part.is_found or is_written]
        blocks = self._answers(answering, composing)
        also = self._contending(answering, composing)
        for part in parts:
            numbers.fill(part.finding, up_to=self._services.tenant.retrieval.passages)
        first = next((part.section for part in answering if part.section is not None), None)
        is_beside = is_written and bool(blocks)
        return Quote(
            parts,
            offered=self._offered(parts, composing),
            excerpts=composing.excerpts,
            blocks=tuple(blocks),
            also=tuple(also),
            section=shown_section(first, blocks) if is_beside and first is not None else None,
        )

    def _answers(self, answering: Sequence[PartQuote], composing: _Composing) -> list[QuotedBlock]:
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

    def _blocks(self, part: PartQuote, composing: _Composing, *, opening: str) -> list[QuotedBlock]:
        """Return an option's answer to one question, or its section; nothing where its section was shown for
        an earlier question. ``opening``: Markdown before it.

        Above a section stand, in this order: which codes of the question it has not; that it is only near,
        with its title, and then all of it is folded; the days counted from the date of the question, where
        the section limits them; that other documents give different values, where they do.
        """
        if part.answer is not None:
            cite = composing.numbers.citing(part.finding)
            return part.answer.blocks(cite, composing.excerpts, opening=opening)
        section = part.section
        if section is None or section.ordinals <= composing.shown.get(section.document_id, frozenset()):
            return []
        composing.note_shown(section)
        if part.unknown_codes:
            opening += f"{UNKNOWN} {inert(', '.join(part.unknown_codes))}.\n\n"
        if part.is_near:
            opening += f"{NEAREST} {inert(shown_title(section.document.card.title))}\n\n"
            section = replace(section, folded=section.ordinals, keys=frozenset())
            return self._section_blocks(section, part, composing, opening=opening)
        query = part.finding.query
        lines = [scored.unit.text for scored in section.units]
        days = self._services.counted_days(query.question, lines, at=query.at)
        opening += "".join(f"{line}.\n\n" for line in days)
        if not part.differing:
            return self._section_blocks(section, part, composing, opening=opening)
        built: list[QuotedBlock] = []
        opening += f"{DIFFERENT}\n\n"
        for shown in (section, *part.differing):
            built += self._section_blocks(shown, part, composing, opening=opening + dated_title(shown))
            opening = "\n\n"
        return built

    def _contending(self, answering: Sequence[PartQuote], composing: _Composing) -> list[AlsoPossible]:
        """Return the sections of second documents (``PartQuote.also``), each document once, without those
        that answer a question already."""
        contending: dict[str, AlsoPossible] = {}
        for part in answering:
            section = part.also
            if section is not None and section.document_id not in {*composing.shown, *contending}:
                blocks = self._section_blocks(section, part, composing)
                contending[section.document_id] = shown_section(section, blocks)
        return list(contending.values())

    def _section_blocks(
        self, section: Section, part: PartQuote, composing: _Composing, *, opening: str = ""
    ) -> list[QuotedBlock]:
        """Return the units of a section that is shown for a question, below a line that says so where its
        document is not in force."""
        asked, note = part.finding.asked.stems, section.document.card.not_in_force
        opening += f"**{inert(note)}**\n\n" if note else ""
        return section_blocks(
            section,
            composing.numbers.citing(part.finding),
            composing.excerpts,
            opening=opening,
            labels=labels_of(section.document_id, self._services),
            names=lambda column: not asked.isdisjoint(self._stems(column)),
        )

    def _offered(self, parts: Sequence[PartQuote], composing: _Composing) -> OfferedAnswer | None:
        """Return the first approved text, to show beside the answer; None where it is the answer itself, or
        there is none."""
        used = ((part, text, text.use) for part in parts for text in part.offered if text.use is not None)
        first = next(used, None)
        if first is None:
            return None
        part, offered, use = first
        # where the search found none of the documents that it is made from, it is of another topic
        is_other = offered.documents and offered.documents.keys().isdisjoint(part.finding.documents)
        if offered.answers or is_other:
            return None
        blocks = offered.blocks(composing.numbers.citing(part.finding), composing.excerpts, opening="")
        return OfferedAnswer(
            item_id=use.item_id,
            revision=use.revision,
            question=offered.wording,
            text="".join(block.before + block.text for block in blocks),
            n=blocks[0].n if blocks else 1,
        )

    def _with_sources(self, quote: Quote, numbers: SourceList, identity: Identity) -> Quote:
        """Return the quote with its sources as the agent sees them; add their snippets to its excerpts."""
        parts, excerpts = quote.parts, quote.excerpts
        links = self._services.documents.links
        stems = frozenset[str]().union(*(part.finding.asked.stems for part in parts))
        cards = _cards(parts)
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


def _is_shown_by(part: PartQuote, later: PartQuote) -> bool:
    """Return whether the section of one question has all that another one's would show."""
    if part.answer or later.answer or part.section is None or later.section is None:
        return False
    if part.is_near != later.is_near:
        return False
    is_same = later.section.document_id == part.section.document_id
    return is_same and later.section.ordinals <= part.section.ordinals


def source_facts(card: DocumentCard | None) -> SourceFacts | None:
    """Return what an agent sees beside a shop's source: price and rating of an item, votes of a review."""
    if card is None or card.item is None:
        return None
    item = card.item
    return SourceFacts(**{name: getattr(item, name) for name in SourceFacts.model_fields})


def _cards(parts: Sequence[PartQuote]) -> dict[str, DocumentCard]:
    """Return the cards of all documents that were read or that offers are made from, by document id."""
    read = [part.finding.documents for part in parts]
    read += [offered.documents for part in parts for offered in part.offered]
    return {name: document.card for documents in read for name, document in documents.items()}
