"""Chooses the units of a document that answer a question, and joins them to Markdown.

A scorer (a weights file of kind ``quoter``) weighs what a unit and its surroundings share with the question,
the kind of answer that the question expects (a number, a time, a person, a step) and the kind of unit. The
best units are taken whole up to a number of words, and shown verbatim, in document order, under their
headings. The condition under which the document applies comes first and is never cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log, sqrt
from typing import NamedTuple

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
_STEP_NUMBER = re.compile(r"\W{0,4}(?:step\s+)?(\d{1,3})[.):]", re.IGNORECASE)
_HEADINGS_KEPT = 20_000
_UNITS_KEPT = 10_000
"""Units whose signs are cached by their text: about 5 MiB."""
_ASKS_OF_TITLE = 0.9
"""Share of a question's weight in the title from which it asks about the document as a whole."""
WITHIN_OF_BEST = 3.0
"""Units that score further below the best one are filler, and more often the other branch of a condition than
the answer (docs/decisions/0029)."""


@dataclass(frozen=True)
class QuestionTerms:
    """A question with its terms and the kind of answer that it expects."""

    terms: tuple[Term, ...]
    text: str

    @cached_property
    def weight(self) -> float:
        return sum(term.weight for term in self.terms) or 1.0

    def coverage(self, stems: frozenset[str]) -> float:
        """Return the share of the question's weight that the stems contain, 0 to 1."""
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
    """A unit with the passage in which it begins, its score and its features."""

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
    """What the document says to the patient; may be empty."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Numbers of the steps that are not quoted, by the heading of their list, where others of it are."""
    is_by_name: bool = False
    """Whether its units are the lines of the properties that the question names."""


@dataclass(frozen=True, slots=True)
class Headings:
    """Headings of the tenant file with a meaning of their own; compared folded, by their last part."""

    reply: frozenset[str]
    condition: frozenset[str]

    @classmethod
    def of(cls, *, reply: Sequence[str], condition: Sequence[str]) -> Headings:
        return cls(frozenset(map(fold, reply)), frozenset(map(fold, condition)))

    def is_reply(self, unit: Unit) -> bool:
        return _last(unit.heading) in self.reply

    def is_condition(self, unit: Unit) -> bool:
        return _last(unit.heading) in self.condition


class UnitScorer:
    """Scores the units of documents for questions of one tenant."""

    def __init__(self, language: Language, weights: Weights, headings: Headings) -> None:
        self.weights = weights
        self._headings = headings
        self._stems = remember_texts(_HEADINGS_KEPT)(language.content_stems)

    def score(
        self, asked: QuestionTerms, document: StoredDocument, *, passage_cosines: Mapping[str, float]
    ) -> list[ScoredUnit]:
        """Return every unit of the document with its score, in document order.

        ``passage_cosines``: by passage id, of the passages whose cosine is known.
        """
        units = [unit for passage in document.passages for unit in passage.units]
        passages = [passage for passage in document.passages for _ in passage.units]
        lowest = min(passage_cosines.values(), default=0.0)
        cosines = [passage_cosines.get(passage.passage_id, lowest) for passage in passages]
        best = max(cosines, default=0.0)
        scored: list[ScoredUnit] = []
        described = self._features(asked, document.card.title, units)
        for unit, passage, cosine, features in zip(units, passages, cosines, described, strict=True):
            features["passage_cosine"] = cosine - best
            scored.append(ScoredUnit(unit, passage, self.weights.score(features), features))
        return scored

    def score_again(
        self, scored: Sequence[ScoredUnit], unit_cosines: Mapping[int, float]
    ) -> Sequence[ScoredUnit]:
        """Return the units with the scores that cosines of their own give; ``unit_cosines``: by ordinal."""
        if not unit_cosines:
            return scored
        best, lowest = max(unit_cosines.values()), min(unit_cosines.values())
        again: list[ScoredUnit] = []
        for one in scored:
            cosine = unit_cosines.get(one.unit.ordinal, lowest)
            features = {**one.features, "unit_cosine": cosine - best}
            again.append(ScoredUnit(one.unit, one.passage, self.weights.score(features), features))
        return again

    def _features(self, asked: QuestionTerms, title: str, units: Sequence[Unit]) -> list[dict[str, float]]:
        title_stems = self._stems(title)
        own = [frozenset(unit.terms) for unit in units]
        heads = [self._stems(unit.heading) - title_stems for unit in units]
        counts = Counter(stem for terms, head in zip(own, heads, strict=True) for stem in terms | head)
        shared = [_overlap(asked, terms, counts, len(units)) for terms in own]
        places = {unit.ordinal: at for at, unit in enumerate(units)}
        leading = _leading(units) if asked.coverage(title_stems) > _ASKS_OF_TITLE else {}
        described: list[dict[str, float]] = []
        for at, unit in enumerate(units):
            before = at > 0 and units[at - 1].heading == unit.heading
            after = at + 1 < len(units) and units[at + 1].heading == unit.heading
            parent = places.get(unit.parent) if unit.parent is not None else None
            words = _signs_of(unit.text).words
            matches = sum(not term.forms.isdisjoint(own[at]) for term in asked.terms)
            features = {
                "overlap": shared[at],
                "overlap_by_length": shared[at] / sqrt(max(words, 5) / _USUAL_WORDS),
                "heading": _overlap(asked, heads[at] - own[at], counts, len(units)),
                "parent": shared[parent] if parent is not None else 0.0,
                "before": shared[at - 1] if before else 0.0,
                "after": shared[at + 1] if after else 0.0,
                "terms": matches / max(1, len(asked.terms)),
                "length": min(words, 60) / 30,
                "short": float(words < 6),
                "place": at / max(1, len(units) - 1),
                "first": float(at == 0),
                "leading": leading.get(unit.ordinal, 0.0),
                "is_condition": float(self._headings.is_condition(unit)),
                "is_reply": float(self._headings.is_reply(unit)),
            }
            described.append(features | _kinds(asked, unit))
        return described


def _overlap(asked: QuestionTerms, stems: frozenset[str], counts: Mapping[str, int], units: int) -> float:
    """Return the share of the question's weight that the stems contain, weighed by their rarity here."""
    total = 0.0
    for term in asked.terms:
        held = term.forms & stems
        if held:
            total += term.weight * max(log(1 + units / (1 + counts.get(stem, 0))) for stem in held)
    return total / asked.weight


def _leading(units: Sequence[Unit]) -> dict[int, float]:
    """Return by ordinal how early a step comes, from 1 down. "Reject 75, what now?" names only the document,
    so its first steps answer."""
    steps = [unit.ordinal for unit in units if unit.kind is UnitKind.STEP]
    return {ordinal: 1.0 - at / len(steps) for at, ordinal in enumerate(steps)}


class _Signs(NamedTuple):
    """What a unit's text says about the kind of answer that it gives."""

    words: int
    number: bool
    time: bool
    person: bool
    condition: bool
    defines: bool


@remember_texts(_UNITS_KEPT)
def _signs_of(text: str) -> _Signs:
    folded = fold(text)
    return _Signs(
        words=len(text.split()),
        number=bool(_HAS_NUMBER.search(folded)),
        time=bool(_HAS_TIME.search(folded)),
        person=bool(_HAS_PERSON.search(folded)),
        condition=bool(_HAS_CONDITION.search(folded)),
        defines=bool(_DEFINES.search(folded)),
    )


@remember_texts(_HEADINGS_KEPT)
def _section_features(heading: str) -> dict[str, float]:
    section = fold(heading)
    return {f"in_{name}": float(words in section) for name, words in _SECTIONS.items()}


def _kinds(asked: QuestionTerms, unit: Unit) -> dict[str, float]:
    """Return features by the kind of the unit and the kind that the question expects."""
    expects, signs = asked.expects, _signs_of(unit.text)
    is_step, is_row = unit.kind is UnitKind.STEP, unit.kind is UnitKind.ROW
    wants_number = expects["number"] or expects["time"]
    return {
        "number": float(signs.number and wants_number),
        "time": float(expects["time"] and signs.time),
        "person": float(expects["person"] and signs.person),
        "step_asked": float(is_step and expects["step"]),
        "step": float(is_step),
        "row": float(is_row),
        "row_asked": float(is_row and wants_number),
        "item": float(unit.kind is UnitKind.ITEM),
        "condition": float(signs.condition),
        "condition_asked": float(signs.condition and expects["yes_or_no"]),
        "defines": float(signs.defines),
        **_section_features(unit.heading),
    }


def choose(
    document: StoredDocument,
    scored: Sequence[ScoredUnit],
    *,
    headings: Headings,
    max_words: int,
    within: float = WITHIN_OF_BEST,
) -> Quote:
    """Return the best units that fit into ``max_words`` (headings counted), or the best one if it alone is
    longer. The sentence that introduces a list comes with each of its items.

    Left out: units that score more than ``within`` below the best, and the *other branch* of a chosen unit,
    such as another row of its table: the agent could not tell which of them applies.
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
    lists = _step_lists(scored, chosen)
    _add_steps(lists, chosen, max_words=max_words)
    return Quote(
        document=document,
        units=tuple(chosen[ordinal] for ordinal in sorted(chosen, key=lambda at: (at not in first, at))),
        best_score=ordered[0].score if ordered else 0.0,
        reply=tuple(one for one in scored if headings.is_reply(one.unit)),
        left_out=_left_out(lists, chosen),
    )


def _step_lists(
    scored: Sequence[ScoredUnit], chosen: Mapping[int, ScoredUnit]
) -> list[tuple[str, list[ScoredUnit]]]:
    """Return the lists of steps of which some are chosen, by heading, each in document order."""
    lists: dict[tuple[str, int | None], list[ScoredUnit]] = {}
    for one in sorted(scored, key=lambda one: one.unit.ordinal):
        if one.unit.kind is UnitKind.STEP:
            lists.setdefault((one.unit.heading, one.unit.parent), []).append(one)
    return [
        (heading, steps)
        for (heading, _), steps in lists.items()
        if any(step.unit.ordinal in chosen for step in steps)
    ]


def _add_steps(
    lists: Sequence[tuple[str, Sequence[ScoredUnit]]], chosen: dict[int, ScoredUnit], *, max_words: int
) -> None:
    """Add the steps between chosen ones, those after them, then those before them, as many as fit: a step
    that is passed over may be the one that keeps a patient safe."""
    for _, steps in lists:
        first = next(at for at, step in enumerate(steps) if step.unit.ordinal in chosen)
        for step in (*steps[first:], *reversed(steps[:first])):
            if step.unit.ordinal not in chosen and _words([*chosen.values(), step]) <= max_words:
                chosen[step.unit.ordinal] = step


def _left_out(
    lists: Sequence[tuple[str, Sequence[ScoredUnit]]], chosen: Mapping[int, ScoredUnit]
) -> dict[str, tuple[str, ...]]:
    """Return the numbers of the steps that are not chosen, by heading."""
    found: dict[str, tuple[str, ...]] = {}
    for heading, steps in lists:
        numbers = [_STEP_NUMBER.match(step.unit.text) for step in steps if step.unit.ordinal not in chosen]
        if numbers:
            told = tuple(number[1] for number in numbers if number is not None)
            found[heading] = (*found.get(heading, ()), *told)
    return found


def is_other_branch(unit: Unit, chosen: Unit) -> bool:
    """Return whether a unit states the same for another case as a chosen one: another row of its table.

    Neighbouring sentences in nearly the same words are no branches: leaving one out lost more right answers
    than wrong branches (docs/decisions/0029).
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
    """Yield (Markdown before the unit's text, unit) for each unit of a quote."""
    heading: str | None = None
    previous: ScoredUnit | None = None
    for one in quote.units:
        before = "" if previous is None else "\n\n"
        if one.unit.heading != heading:
            heading = one.unit.heading
            before += _heading_line(heading, quote.left_out.get(heading, ()))
        elif previous is not None and _continues(previous.unit, one.unit):
            before = " " if one.unit.kind is UnitKind.SENTENCE else "\n"
        yield before + _marker(one.unit), one
        previous = one


def _heading_line(heading: str, left_out: Sequence[str]) -> str:
    """Return a heading, and which steps under it the document has beside those that follow."""
    shown = shown_heading(heading)
    title = f"**{shown}**" if shown else ""
    if not left_out:
        return f"{title}\n\n" if title else ""
    steps = "step" if len(left_out) == 1 else "steps"
    numbers = " and ".join(filter(None, (", ".join(left_out[:-1]), left_out[-1])))
    return f"{title} (not quoted: {steps} {numbers})\n\n".lstrip()


def _marker(unit: Unit) -> str:
    """Return the list marker of a unit that has none in its own text."""
    is_listed = unit.kind in (UnitKind.ROW, UnitKind.DEFINITION) or (
        unit.kind is UnitKind.ITEM and not unit.text.startswith(("- ", "* ", "• "))
    )
    return "- " if is_listed else ""


def _continues(before: Unit, unit: Unit) -> bool:
    """Return whether two units are in one paragraph, list or table."""
    if unit.kind is UnitKind.SENTENCE:
        return before.kind is UnitKind.SENTENCE and before.ordinal == unit.ordinal - 1
    return before.kind is unit.kind


def _with_lead(best: ScoredUnit, by_ordinal: Mapping[int, ScoredUnit]) -> list[ScoredUnit]:
    """Return the unit, after the unit that introduces it."""
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
