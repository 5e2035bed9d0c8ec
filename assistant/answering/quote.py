"""Quotes: which units of a document answer a question, and the text that is made of them.

An in-document scorer (``learned.py``, kind ``quoter``) weighs what a unit and its surroundings share with the
question, the kind of answer that the question expects (a number, a time, a person, a step) and the kind of
unit. The best units are taken whole until the words are used up, and shown in document order under their
headings, verbatim. The condition under which the document applies comes first and is never cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log, sqrt

from assistant.answering.excerpts import remember_texts, shown_heading
from assistant.answering.retrieve import Weights
from assistant.answering.understand import Term
from assistant.domain.documents import Passage, StoredDocument, Unit, UnitKind
from assistant.text.language import Language, fold

_NUMBER_ASKED = re.compile(
    r"\b(?:how (?:many|much|old|often|far|big|high|low|likely)|what (?:number|age|amount|percent|code|ext)|"
    r"which (?:code|number|ext\w*)|cost|price|fee|charge|limit|max(?:imum)?|min(?:imum)?|cap|discount)\b"
)
_TIME_ASKED = re.compile(
    r"\b(?:how (?:long|soon|quick|quickly|fast|late)|when|by when|deadline|(?:what|which) day|time ?frame|"
    r"wait|until|till|days?|hours?|weeks?|months?)\b"
)
_PERSON_ASKED = re.compile(
    r"\b(?:who|whom|(?:which|what) (?:desk|team|number|office|ext)|where do i|extension|ext|phone|ring|call|"
    r"transfer)\b"
)
_STEP_ASKED = re.compile(
    r"\b(?:how (?:do|can|should|to)|what (?:do|should|can|must) (?:i|we|she|he|they)|what now|steps?|next)\b"
)
_YES_OR_NO = re.compile(
    r"^\W*(?:can|may|is|are|do|does|should|will|did|has|am|could|must)\b|"
    r"\b(?:can|may|does|is|do|are) (?:we|i|she|he|they|it|that|this|there)\b"
)
_HAS_NUMBER = re.compile(r"\d")
_HAS_TIME = re.compile(
    r"\b(?:days?|hours?|minutes?|weeks?|months?|years?|a\.?m|p\.?m|monday|friday|deadline|immediately|"
    r"same day)\b"
)
_HAS_PERSON = re.compile(
    r"\b(?:desk|ext\.|pharmacist|office|team|prescriber|lead|doctor|nurse|specialist|surgeon|dentist)\b"
)
_HAS_CONDITION = re.compile(r"\b(?:if|unless|only|except|when)\b")
_DEFINES = re.compile(r"^\W*[\w' -]{2,60} (?:is|are|refers to|means) (?:a|an|the)\b")
_USUAL_WORDS = 15
_SECTIONS = {
    "before_you_start": "before you start",
    "escalation": "escalation",
    "exceptions": "exception",
    "steps": "steps",
}
_HEADINGS_KEPT = 20_000
_ASKS_OF_TITLE = 0.9
"""Share of a question's weight in the title from which it asks of the document as a whole."""
WITHIN_OF_BEST = 3.0
"""In scores: units further below the best one are filler, and hold the other branch of a condition more often
than the answer (docs/decisions/0029)."""


@dataclass(frozen=True)
class AskedOf:
    """A question as the scorer sees it."""

    terms: tuple[Term, ...]
    text: str

    @cached_property
    def weight(self) -> float:
        return sum(term.weight for term in self.terms) or 1.0

    def coverage(self, stems: frozenset[str]) -> float:
        """Return the share of the question's weight that the stems hold, 0 to 1."""
        return sum(term.weight for term in self.terms if term.forms & stems) / self.weight

    @cached_property
    def expects(self) -> Mapping[str, bool]:
        folded = fold(self.text)
        return {
            "number": bool(_NUMBER_ASKED.search(folded)),
            "time": bool(_TIME_ASKED.search(folded)),
            "person": bool(_PERSON_ASKED.search(folded)),
            "step": bool(_STEP_ASKED.search(folded)),
            "yes_or_no": bool(_YES_OR_NO.search(folded)),
        }


@dataclass(frozen=True, slots=True)
class ScoredUnit:
    """A unit with the passage that it begins in and what the scorer made of it."""

    unit: Unit
    passage: Passage
    score: float
    features: Mapping[str, float]

    @property
    def words(self) -> int:
        return len(self.unit.text.split())


@dataclass(frozen=True, slots=True)
class Quote:
    """Units of one document that answer a question, in document order."""

    document: StoredDocument
    units: tuple[ScoredUnit, ...]
    best_score: float
    """Of the best unit."""
    reply: tuple[ScoredUnit, ...]
    """What the document says to the patient, where it does."""


@dataclass(frozen=True, slots=True)
class Headings:
    """Headings with a meaning of their own, by the tenant file; compared folded, by their last part."""

    reply: frozenset[str]
    condition: frozenset[str]

    @classmethod
    def of(cls, *, reply: Sequence[str], condition: Sequence[str]) -> Headings:
        return cls(frozenset(map(fold, reply)), frozenset(map(fold, condition)))

    def is_reply(self, unit: Unit) -> bool:
        return _last(unit.heading) in self.reply

    def is_condition(self, unit: Unit) -> bool:
        return _last(unit.heading) in self.condition


@dataclass(slots=True)
class UnitScorer:
    """Scores the units of documents for questions of one tenant."""

    language: Language
    weights: Weights
    headings: Headings
    _stems: Callable[[str], frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._stems = remember_texts(_HEADINGS_KEPT)(self.language.content_stems)

    def score(
        self,
        asked: AskedOf,
        document: StoredDocument,
        *,
        passage_cosines: Mapping[str, float],
        unit_cosines: Mapping[int, float] | None = None,
    ) -> list[ScoredUnit]:
        """Return every unit of the document with its score, in document order.

        ``passage_cosines``: by passage id, of the passages whose cosine is known. ``unit_cosines``: by
        ordinal, where the units themselves were embedded.
        """
        placed = [(unit, passage) for passage in document.passages for unit in passage.units]
        described = self._features(asked, document, placed, passage_cosines, unit_cosines or {})
        return [
            ScoredUnit(unit, passage, self.weights.score(features), features)
            for (unit, passage), features in zip(placed, described, strict=True)
        ]

    def _features(
        self,
        asked: AskedOf,
        document: StoredDocument,
        placed: Sequence[tuple[Unit, Passage]],
        passage_cosines: Mapping[str, float],
        unit_cosines: Mapping[int, float],
    ) -> list[dict[str, float]]:
        title = self._stems(document.card.title)
        own = [frozenset(unit.terms) for unit, _ in placed]
        heads = [self._stems(unit.heading) - title for unit, _ in placed]
        counts = Counter(stem for terms, head in zip(own, heads, strict=True) for stem in terms | head)
        shared = [self._overlap(asked, terms, counts, len(placed)) for terms in own]
        by_ordinal = {unit.ordinal: at for at, (unit, _) in enumerate(placed)}
        lowest = min(passage_cosines.values(), default=0.0)
        cosines = [passage_cosines.get(passage.passage_id, lowest) for _, passage in placed]
        best_cosine = max(cosines, default=0.0)
        best_unit_cosine = max(unit_cosines.values(), default=0.0)
        lowest_unit_cosine = min(unit_cosines.values(), default=0.0)
        last = max(1, len(placed) - 1)
        leading = _leading([unit for unit, _ in placed]) if asked.coverage(title) > _ASKS_OF_TITLE else {}
        described: list[dict[str, float]] = []
        for at, (unit, _) in enumerate(placed):
            before = at > 0 and placed[at - 1][0].heading == unit.heading
            after = at < len(placed) - 1 and placed[at + 1][0].heading == unit.heading
            parent = by_ordinal.get(unit.parent) if unit.parent is not None else None
            words = len(unit.text.split())
            features = {
                "overlap": shared[at],
                "overlap_by_length": shared[at] / sqrt(max(words, 5) / _USUAL_WORDS),
                "heading": self._overlap(asked, heads[at] - own[at], counts, len(placed)),
                "parent": shared[parent] if parent is not None else 0.0,
                "before": shared[at - 1] if before else 0.0,
                "after": shared[at + 1] if after else 0.0,
                "terms": sum(not term.forms.isdisjoint(own[at]) for term in asked.terms)
                / max(1, len(asked.terms)),
                "length": min(words, 60) / 30,
                "short": float(words < 6),
                "place": at / last,
                "first": float(at == 0),
                "leading": leading.get(unit.ordinal, 0.0),
                "passage_cosine": cosines[at] - best_cosine,
                "is_condition": float(self.headings.is_condition(unit)),
                "is_reply": float(self.headings.is_reply(unit)),
            }
            if unit_cosines:
                features["unit_cosine"] = (
                    unit_cosines.get(unit.ordinal, lowest_unit_cosine) - best_unit_cosine
                )
            features.update(_kinds(asked, unit))
            described.append(features)
        return described

    def _overlap(self, asked: AskedOf, stems: frozenset[str], counts: Mapping[str, int], units: int) -> float:
        """Return the share of the question's weight that the stems hold, each the more the rarer in here."""
        total = 0.0
        for term in asked.terms:
            held = term.forms & stems
            if held:
                total += term.weight * max(log(1 + units / (1 + counts.get(stem, 0))) for stem in held)
        return total / asked.weight


def _leading(units: Sequence[Unit]) -> dict[int, float]:
    """Return by ordinal how early a step comes, from 1 down: "Reject 75, what now?" names the document and
    nothing in it, so its first steps answer."""
    steps = [unit.ordinal for unit in units if unit.kind is UnitKind.STEP]
    return {ordinal: 1.0 - at / len(steps) for at, ordinal in enumerate(steps)}


def _kinds(asked: AskedOf, unit: Unit) -> Iterator[tuple[str, float]]:
    """Yield whether the unit is of the kind that the question expects."""
    expects, text = asked.expects, fold(unit.text)
    is_condition = bool(_HAS_CONDITION.search(text))
    yield "number", float(bool(_HAS_NUMBER.search(text)) and (expects["number"] or expects["time"]))
    yield "time", float(expects["time"] and bool(_HAS_TIME.search(text)))
    yield "person", float(expects["person"] and bool(_HAS_PERSON.search(text)))
    yield "step_asked", float(unit.kind is UnitKind.STEP and expects["step"])
    yield "step", float(unit.kind is UnitKind.STEP)
    yield "row", float(unit.kind is UnitKind.ROW)
    yield "row_asked", float(unit.kind is UnitKind.ROW and (expects["number"] or expects["time"]))
    yield "item", float(unit.kind is UnitKind.ITEM)
    yield "condition", float(is_condition)
    yield "condition_asked", float(is_condition and expects["yes_or_no"])
    yield "defines", float(bool(_DEFINES.search(text)))
    section = fold(unit.heading)
    for name, words in _SECTIONS.items():
        yield f"in_{name}", float(words in section)


def choose(
    document: StoredDocument,
    scored: Sequence[ScoredUnit],
    *,
    headings: Headings,
    max_words: int,
    within: float = WITHIN_OF_BEST,
) -> Quote:
    """Return the best units that fit into ``max_words`` (headings counted), or the best one if it alone is
    longer. A unit brings what it makes no sense without: the sentence that introduces its list.

    Left out: units that score more than ``within`` below the best, and the *other branch* of a chosen unit,
    such as another row of its table: side by side they would leave the choice to the agent's luck.
    """
    by_ordinal = {one.unit.ordinal: one for one in scored}
    governing = next((one for one in scored if headings.is_condition(one.unit)), None)
    chosen = {governing.unit.ordinal: governing} if governing is not None else {}
    first = frozenset(chosen)
    rest = [one for one in scored if not headings.is_reply(one.unit)] or scored
    ordered = sorted(rest, key=lambda one: (-one.score, one.unit.ordinal))
    taken: list[ScoredUnit] = []
    for best in ordered:
        if best.score < ordered[0].score - within:
            break
        group = [one for one in _with_lead(best, by_ordinal) if one.unit.ordinal not in chosen]
        if not group or any(is_other_branch(best.unit, one.unit) for one in taken):
            continue
        if taken and _words([*chosen.values(), *group]) > max_words:
            continue
        taken.append(best)
        chosen.update((one.unit.ordinal, one) for one in group)
        if best.unit.text.endswith(":"):
            _add_children(best, scored, chosen, max_words=max_words)
    return Quote(
        document=document,
        units=tuple(chosen[ordinal] for ordinal in sorted(chosen, key=lambda at: (at not in first, at))),
        best_score=ordered[0].score if ordered else 0.0,
        reply=tuple(one for one in scored if headings.is_reply(one.unit)),
    )


def is_other_branch(unit: Unit, chosen: Unit) -> bool:
    """Say whether a unit states what a chosen one states, for another case: another row of the same table.

    Neighbouring sentences in nearly the same words were tried as well: leaving one out lost more right
    answers than wrong branches (docs/decisions/0029).
    """
    if unit.ordinal == chosen.ordinal or UnitKind.ROW not in (unit.kind, chosen.kind):
        return False
    return unit.kind is chosen.kind and unit.heading == chosen.heading and unit.parent == chosen.parent


def _add_children(
    lead: ScoredUnit, scored: Sequence[ScoredUnit], chosen: dict[int, ScoredUnit], *, max_words: int
) -> None:
    """Add the items of the list that a unit introduces, as many as fit."""
    for child in scored:
        if child.unit.parent == lead.unit.ordinal and child.unit.ordinal not in chosen:
            if _words([*chosen.values(), child]) > max_words:
                return
            chosen[child.unit.ordinal] = child


def blocks(quote: Quote) -> Iterator[tuple[str, ScoredUnit]]:
    """Yield (Markdown that goes before the unit's text, unit) for each unit of a quote."""
    heading = ""
    previous: ScoredUnit | None = None
    for one in quote.units:
        before = "" if previous is None else "\n\n"
        if one.unit.heading != heading:
            heading = one.unit.heading
            shown = shown_heading(heading)
            before += f"**{shown}**\n\n" if shown else ""
        elif previous is not None and _continues(previous.unit, one.unit):
            before = " " if one.unit.kind is UnitKind.SENTENCE else "\n"
        yield before + _marker(one.unit), one
        previous = one


def _marker(unit: Unit) -> str:
    """Return what makes a list item of a unit that is none in its own text."""
    is_listed = unit.kind in (UnitKind.ROW, UnitKind.DEFINITION) or (
        unit.kind is UnitKind.ITEM and not unit.text.startswith(("- ", "* ", "• "))
    )
    return "- " if is_listed else ""


def _continues(before: Unit, unit: Unit) -> bool:
    """Say whether two units stand in one paragraph, list or table."""
    if unit.kind is UnitKind.SENTENCE:
        return before.kind is UnitKind.SENTENCE and before.ordinal == unit.ordinal - 1
    return before.kind is unit.kind


def _with_lead(best: ScoredUnit, by_ordinal: Mapping[int, ScoredUnit]) -> list[ScoredUnit]:
    """Return the unit, after the units that it makes no sense without."""
    parent = by_ordinal.get(best.unit.parent) if best.unit.parent is not None else None
    if parent is None or (best.unit.kind is UnitKind.ROW and not parent.unit.text.endswith(":")):
        return [best]
    return [parent, best]


def _words(units: Sequence[ScoredUnit]) -> int:
    headings = {one.unit.heading for one in units}
    return sum(one.words for one in units) + sum(
        len(heading.replace(" > ", " ").split()) for heading in headings
    )


@remember_texts(_HEADINGS_KEPT)
def _last(heading: str) -> str:
    return fold(heading.rpartition(" > ")[2]).strip()
