"""Checks whether one unit of a document supports a whole sentence, without a model.

A sentence is supported when one unit, or two adjacent ones under one heading, makes its whole statement. Both
texts are parsed into clauses and compared; the first check that fails gives the reason.

- *words* (``no_unit``): hardly a content word of the sentence is missing from the unit and its headings. A
  noun that the document has elsewhere must not be missing: it belongs to another statement;
- *numbers* (``number_differs``): each number, dose and code is in the unit, beside the same words, and
  "up to" does not become "at least";
- *row* (``row_differs``): the sentence names what distinguishes the table row, and no word of another row;
- *negation* (``negation_differs``): clauses about the same thing are both negated or both not;
- *condition* (``condition_dropped``): no "if", "unless" or "until" is dropped, added or inverted;
- *actor* (``actor_differs``): the same actor does the same thing.

False support does harm and a false alarm costs only a quote, so every uncertain sentence is unsupported.
Words do not prove meaning: a strong paraphrase is unsupported too (measured in docs/decisions/0028).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from assistant.answering.excerpts import remember_texts
from assistant.domain.documents import Passage, Unit, UnitKind
from assistant.text.language import Language, has_unsupported_numbers
from assistant.text.statements import (
    ANYONE,
    SAME_CONDITION,
    STOP_WEIGHT,
    Clause,
    Statement,
    read_statement,
    same_actor,
)

STORED_KEPT = 2_000
"""Parsed statements of documents that are cached: the sources of some 50 answers, about 16 MiB."""
MOST_MISSING = 0.3
"""Share of the claim's weight that the unit may lack: the writer's own words."""
_CONTEXT_FACTOR = 0.35
"""Weight of a word that only a title, heading or introducing sentence has."""
_VERB_FACTOR = 0.3
"""Weight of a missing word that is no noun: paraphrases change verbs and adverbs."""
_ELSEWHERE_FACTOR = 2.0
"""Weight of a missing word, no noun, that the document has elsewhere: it may belong to another statement."""
_MOST_CONDITION_DROPPED = 0.5
"""Share of the words of a condition that may be missing."""
_TOGETHER = 0.75
"""Share of the words of a claim's clause that one sentence must have."""
_NEARLY_ALL = 0.8
"""Share of a condition's words from which a unit without a condition is about that case."""
_LITTLE = 0.3
"""Share of a main clause's words up to which a claim is not about it."""
_ALIKE = 0.5
"""Share of a clause's words that another clause about the same thing has at least."""

REASONS = (
    "no_unit",
    "number_differs",
    "row_differs",
    "negation_differs",
    "condition_dropped",
    "actor_differs",
)
"""Every code in ``SupportResult.reasons``."""


@dataclass(frozen=True, slots=True)
class SupportResult:
    """The sources that support a sentence, or why none does."""

    citations: tuple[int, ...]
    reasons: tuple[str, ...] = ()


@remember_texts(STORED_KEPT)
def _read_stored(text: str, language: Language, *, row: bool = False) -> Statement:
    """Parse a text of a document, once. A model's text is never cached."""
    return read_statement(text, language, row=row)


class SupportChecker:
    """Checks the sentences of one answer against its passages, which are numbered from 1."""

    def __init__(self, passages: Sequence[Passage], *, language: Language) -> None:
        self._passages = passages
        self._language = language

    def prepare(self) -> None:
        """Parse the passages now; the first check does it otherwise."""
        _ = self._premises, self._stored

    def check(self, sentence: str) -> SupportResult:
        """Return the numbers of the sources that support the sentence, or a reason."""
        claim = self._stored.get(sentence) or read_statement(sentence, self._language)
        if max(claim.weights.values(), default=0.0) <= STOP_WEIGHT:
            return SupportResult((), ("no_unit",))  # "Yes, please ask them.": every unit would support it
        found, reason = self._best_premise(claim)
        if found is not None:
            return SupportResult((found.number,))
        halves = _halves(sentence)
        if halves is not None:
            first, second = (self._supporting(read_statement(half, self._language)) for half in halves)
            pair = next(((one, other) for one in first for other in second if one.is_beside(other)), None)
            if pair is not None:
                return SupportResult(tuple(sorted({pair[0].number, pair[1].number})))
        return SupportResult((), (reason,))

    def _supporting(self, claim: Statement) -> list[_Premise]:
        return [
            premise
            for premise in self._premises
            if premise.missing(claim) <= MOST_MISSING and premise.objection(claim) is None
        ]

    def _best_premise(self, claim: Statement) -> tuple[_Premise | None, str]:
        """Return the unit that supports the claim best, and why the nearest of the others does not."""
        nearest: tuple[float, str] = (1.0, "no_unit")
        best: tuple[float, _Premise] | None = None
        for premise in self._premises:
            missing = premise.missing(claim)
            if best is not None and missing >= best[0]:
                continue
            if missing > MOST_MISSING:
                if missing < nearest[0]:
                    nearest = (missing, "no_unit")
                continue
            reason = premise.objection(claim)
            if reason is None:
                best = (missing, premise)
                if missing == 0.0:
                    break
            elif missing < nearest[0]:
                nearest = (missing, reason)
        return (best[1] if best is not None else None), nearest[1]

    @cached_property
    def _stored(self) -> Mapping[str, Statement]:
        """Parsed sentences of the passages by their text: a model often repeats one word for word."""
        return {
            unit.text: _read_stored(unit.text, self._language)
            for passage in self._passages
            for unit in passage.units
            if unit.kind is not UnitKind.ROW
        }

    @cached_property
    def _premises(self) -> list[_Premise]:
        read = {
            (passage.document_id, unit.ordinal): _read_stored(
                unit.text, self._language, row=unit.kind is UnitKind.ROW
            )
            for passage in self._passages
            for unit in passage.units
        }
        elsewhere: dict[str, set[str]] = {}
        for passage in self._passages:
            words = elsewhere.setdefault(passage.document_id, set())
            for heading in {passage.heading, *(unit.heading for unit in passage.units)}:
                words.update(_read_stored(heading, self._language).words)
            for unit in passage.units:
                words.update(read[passage.document_id, unit.ordinal].words)
        return [
            premise
            for n, passage in enumerate(self._passages, 1)
            for premise in self._of_passage(n, passage, read, elsewhere[passage.document_id])
        ]

    def _of_passage(
        self,
        number: int,
        passage: Passage,
        read: Mapping[tuple[str, int], Statement],
        elsewhere: Collection[str],
    ) -> Iterator[_Premise]:
        rows = _table_rows(passage, read, self._language)
        desks = _desks(passage, self._language)
        title = _read_stored(passage.title, self._language)
        headings: dict[str, Statement] = {}
        for unit in passage.units:
            if unit.heading not in headings:
                headings[unit.heading] = _read_stored(unit.heading, self._language)
            lead = read.get((passage.document_id, unit.parent)) if unit.parent is not None else None
            yield _Premise(
                number=number,
                place=(passage.document_id, unit.heading, unit.ordinal),
                said=read[passage.document_id, unit.ordinal],
                above=[title, headings[unit.heading], *filter(None, (lead, desks.get(unit.ordinal)))],
                elsewhere=elsewhere,
                row=rows.get(unit.ordinal),
            )


_JOINT = re.compile(
    r"(?:;|, and|, but|(?<=[a-z]) and) (?=(?:the|an?|it|they|this|we|you|[A-Z]\w+|no|every|\d+) )"
)


def _halves(sentence: str) -> tuple[str, str] | None:
    """Return the two statements of a sentence that joins two; each must have a subject of its own."""
    joints = list(_JOINT.finditer(sentence))
    if len(joints) != 1:
        return None
    return sentence[: joints[0].start()] + ".", sentence[joints[0].end() :]


@dataclass(frozen=True, eq=False)
class _Premise:
    """One unit, with the headings and the sentence above it."""

    number: int
    """Of its passage."""
    place: tuple[str, str, int]
    """Document, heading, ordinal."""
    said: Statement
    above: Sequence[Statement]
    """Title, heading, the sentence that introduces the unit, and the desk that it means."""
    elsewhere: Collection[str]
    """Words of the whole document."""
    row: _Row | None
    """For a table row."""

    @cached_property
    def _context(self) -> frozenset[str]:
        return frozenset[str]().union(*(statement.words for statement in self.above))

    def is_beside(self, other: _Premise) -> bool:
        """Return whether the other is the same or an adjacent unit under the same heading."""
        return self.place[:2] == other.place[:2] and abs(self.place[2] - other.place[2]) <= 1

    def missing(self, claim: Statement) -> float:
        """Return the share of the claim's weight that this lacks; 1.0: it is about something else."""
        absent = claim.words - self.said.words
        if len(absent) == len(claim.words):
            return 1.0
        gone = absent - self._context
        if not (gone & claim.nouns).isdisjoint(self.elsewhere):
            return 1.0
        lost = 0.0
        below = False
        for word, weight in claim.weights.items():  # in this order: sums of floats depend on it
            if word not in absent:
                continue
            if word not in gone:
                below |= word in claim.nouns
                lost += weight * _CONTEXT_FACTOR
            elif word in claim.nouns:
                lost += weight
            else:
                lost += weight * (_ELSEWHERE_FACTOR if word in self.elsewhere else _VERB_FACTOR)
        if below and self._lacks_noun(claim):
            return 1.0
        return lost / claim.total

    def _lacks_noun(self, claim: Statement) -> bool:
        """Return whether a clause that the claim uses has a noun that the claim lacks: a heading's word may
        have replaced it."""
        left = self.said.nouns - claim.words - self._context
        return any(
            clause.words & left and len(clause.words & claim.words) >= len(clause.words) * _ALIKE
            for clause in self.said.clauses
        )

    def objection(self, claim: Statement) -> str | None:
        """Return why this does not support the claim though it has its words, as a code; None if it does."""
        if self._numbers_differ(claim):
            return "number_differs"
        if not all(self._holds_together(clause, claim.nouns) for clause in claim.clauses):
            return "no_unit"
        if self.row is not None and self.row.differs(claim, self._context):
            return "row_differs"
        checks = (
            ("negation_differs", self._negation_differs),
            ("condition_dropped", self._condition_differs),
            ("actor_differs", self._actor_differs),
        )
        return next((reason for reason, differs in checks if differs(claim)), None)

    def _holds_together(self, clause: Clause, nouns: frozenset[str]) -> bool:
        """Return whether one sentence has the words of a clause of the claim; a sentence that begins with a
        pronoun counts with the one before it. Words of two other sentences would make a third statement."""
        words = clause.content & (self.said.words | self._context)
        if len(clause.content) > 2 and len(words) < len(clause.content) * _ALIKE:
            return False
        own = words & self.said.words
        before: frozenset[str] = frozenset()
        label = self.said.label
        for sentence in self.said.sentences:
            held = sentence.words | label | (before if sentence.refers_back else frozenset[str]())
            most = len(own & held) >= len(own) * _TOGETHER
            if most and clause.numbers <= held and own & nouns <= held | self._context:
                return True
            before = sentence.words
        return not own and not clause.numbers

    def _numbers_differ(self, claim: Statement) -> bool:
        """Return whether a number is missing, is beside other words, or is a limit of the other kind."""
        if has_unsupported_numbers(claim.quantities, self.said.quantities):
            return True
        for value, limit in claim.limits.items():
            if self.said.limits.get(value, limit) != limit:
                return True
        return not _numbers_bound_alike(claim, self.said)

    def _negation_differs(self, claim: Statement) -> bool:
        """Return whether two clauses about the same thing are negated in one text only."""
        if not claim.negates and not self.said.negates:
            return False
        here = self.said.below_label
        matched: list[Clause] = []
        for clause in claim.clauses:
            if clause.negated and clause.words:
                alike = _most_alike(clause, here)
                if not any(other.negated for other in alike):
                    return True
                matched += alike
        denied = [clause for clause in here if clause.negated and clause not in matched]
        for clause in denied:
            alike = _most_alike(clause, claim.clauses)
            if clause.share_in(claim.words) >= _ALIKE and not any(other.negated for other in alike):
                return True
        for clause in claim.clauses:
            alike = [] if clause.negated else _most_alike(clause, here)
            if alike and all(other in denied for other in alike):
                return True
        return False

    def _condition_differs(self, claim: Statement) -> bool:
        """Return whether the claim drops a condition of a sentence that it uses, or adds one."""
        if any(not _names(claim, condition) for condition in self._conditions_of(claim)):
            return True
        label = self.said.label
        if label and len(label & claim.words) < len(label) * _MOST_CONDITION_DROPPED:
            return True
        if not all(self._holds_condition(condition) for condition in claim.conditions):
            return True
        return self.row is None and any(self._omits_consequence(clause, claim) for clause in claim.clauses)

    def _conditions_of(self, claim: Statement) -> list[Clause]:
        """Return the conditions of the sentences whose main clause the claim repeats."""
        used = {
            other.sentence
            for clause in claim.clauses
            for other in _most_alike(clause, self.said.clauses)
            if not other.kind
        }
        return [c for c in self.said.conditions if c.kind != "even if" and c.sentence in used]

    def _holds_condition(self, condition: Clause) -> bool:
        """Return whether a condition of the claim is one here, or is what the whole unit is about."""
        same = SAME_CONDITION[condition.kind]
        if not condition.words:
            return any(c.kind in same and c.negated == condition.negated for c in self.said.conditions)
        alike = _most_alike(condition, self.said.clauses, least=_ALIKE)
        if any(other.kind in same for other in alike) or (self.row is not None and "after" in same):
            return True
        if condition.kind == "only if" and self.said.limits_to:
            return bool(alike)
        if not alike or any(other.kind for other in alike):
            return False
        held = condition.share_in(self.said.words) >= _NEARLY_ALL
        return condition.kind in {"before", "after"} or (
            condition.kind == "if" and held and all(other.negated == condition.negated for other in alike)
        )

    def _omits_consequence(self, clause: Clause, claim: Statement) -> bool:
        """Return whether a clause states as a fact what is only a condition here, without the consequence."""
        if clause.kind or len(clause.words) < 2:
            return False
        alike = _most_alike(clause, self.said.clauses, least=_ALIKE)
        if not alike or any(other.kind != "if" for other in alike):
            return False
        consequences = [self.said.words_of(other.sentence, but=other) for other in alike]
        return not any(len(words & claim.words) > len(words) * _LITTLE for words in consequences)

    def _actor_differs(self, claim: Statement) -> bool:
        """Return whether someone acts in the claim who does not act here."""
        above = [actor for statement in self.above for actor in statement.actors]
        here = [*self.said.actors, *above]
        for actor in claim.actors:
            if actor not in ANYONE and not any(same_actor(actor, other) for other in here):
                return True
        for actor, verb in claim.acts:
            doers = [other for other, does in self.said.acts if does == verb]
            if doers and not any(same_actor(actor, other) for other in doers):
                return True
        return False


_DESK = re.compile(r"(?:[A-Z][\w-]+ )+(?:Desk|Office|Team|Lead|Line)\b")
_THE_DESK = re.compile(r"\b[Tt]he (?:desk|office|team|lead|line)\b")


def _desks(passage: Passage, language: Language) -> dict[int, Statement]:
    """Return which desk "the desk" means in a unit: the last one named before it. By ordinal."""
    found: dict[int, Statement] = {}
    named: str | None = None
    for unit in passage.units:
        desks = _DESK.findall(unit.text)
        if named and not desks and _THE_DESK.search(unit.text):
            found[unit.ordinal] = _read_stored(named, language)
        named = desks[-1] if desks else named
    return found


# Rows


@dataclass(frozen=True, slots=True)
class _Row:
    """A table row among its neighbours."""

    key: frozenset[str]
    """Words and numbers of its first cell; only those that no other row has there, if there are any."""
    others: Collection[str]
    """Words that only the other rows of its table have."""

    def differs(self, claim: Statement, context: Collection[str]) -> bool:
        """Return whether the claim omits what this row is about, or has words of another row."""
        spoken = _all_words(claim)
        if self.key and len(self.key & spoken) < len(self.key) * _MOST_CONDITION_DROPPED:
            return True
        return any(
            word in self.others and word not in context
            for word, weight in claim.weights.items()
            if weight > STOP_WEIGHT
        )


def _table_rows(
    passage: Passage, read: Mapping[tuple[str, int], Statement], language: Language
) -> dict[int, _Row]:
    """Return the table rows of a passage by ordinal. Rows under one heading are one table."""
    tables: dict[str, list[Unit]] = defaultdict(list)
    for unit in passage.units:
        if unit.kind is UnitKind.ROW:
            tables[unit.heading].append(unit)
    found: dict[int, _Row] = {}
    for rows in tables.values():
        keys = [_all_words(_read_stored(_first_cell(unit.text), language)) for unit in rows]
        words = [read[passage.document_id, unit.ordinal].words for unit in rows]
        in_keys = Counter(word for key in keys for word in key)
        in_rows = frozenset[str]().union(*words)
        for unit, key, own in zip(rows, keys, words, strict=True):
            unique = frozenset(word for word in key if in_keys[word] == 1)
            found[unit.ordinal] = _Row(
                key=frozenset() if len(rows) == 1 else unique or key, others=in_rows - own
            )
    return found


def _first_cell(row: str) -> str:
    first = row.partition("; ")[0]
    return first.partition(": ")[2] or first


def _all_words(statement: Statement) -> frozenset[str]:
    return statement.words | statement.letters | statement.quantities.values | statement.quantities.codes


def _most_alike(clause: Clause, others: Iterable[Clause], *, least: float = 0.0) -> list[Clause]:
    """Return the clauses that share most words with this one; at least the share ``least`` of its words."""
    best: list[Clause] = []
    most = 0
    for other in others:
        alike = len(clause.words & other.words)
        if alike > most:
            best, most = [other], alike
        elif alike and alike == most:
            best.append(other)
    return best if clause.words and most / len(clause.words) >= least else []


def _names(claim: Statement, condition: Clause) -> bool:
    """Return whether the claim has a condition's words, or any condition if it has no words."""
    if not condition.words:
        return bool(claim.conditions)
    return condition.share_in(claim.words) > _MOST_CONDITION_DROPPED


def _numbers_bound_alike(claim: Statement, said: Statement) -> bool:
    """Return whether each number of the claim is beside the same words as in the unit."""
    with_numbers = [(numbers, words) for numbers, words in said.segments if numbers]
    if len(with_numbers) < 2:
        return True
    for value in claim.quantities.values - {"1"}:
        beside = [words for numbers, words in said.segments if value in numbers and words]
        spoken = [words for numbers, words in claim.segments if value in numbers]
        if not beside or not spoken:
            continue
        near = frozenset[str]().union(*spoken)
        held = frozenset[str]().union(*beside)
        others = [words for numbers, words in with_numbers if value not in numbers]
        own = held - frozenset[str]().union(*others)
        if (
            near
            and own
            and max((_share(words - held, near) for words in others), default=0.0) > _share(own, near)
        ):
            return False
    return True


def _share(words: frozenset[str], of: frozenset[str]) -> float:
    return len(words & of) / len(words) if words else 0.0
