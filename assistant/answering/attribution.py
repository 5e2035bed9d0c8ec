"""Which passages hold what a finished sentence says. Decided outside the model, sentence by sentence.

A passage supports a sentence when all of this is so:

- most of the sentence's content terms stand in it, title and heading included, and most of those close
  together, in three sentences in a row: scattered words of a long passage are no statement;
- every number, dose, unit and code of the sentence stands in it;
- it does not say the opposite: where one of its own sentences is nearly the same, it does not negate a word
  that the other affirms.

The citation is the one passage that fits best, or two that only together hold the sentence. Anything else is
unsupported, and has no citation. Containment of words is no proof of meaning: it finds what was made up, not
what was misread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from assistant.answering.language import Language
from assistant.answering.passage_text import PassageText, Statement
from assistant.answering.quantities import NO_FIGURES, Quantities, quantities, unsupported_figures
from assistant.answering.sentences import SentenceSpan
from assistant.domain.answers import Sentence, Support

MIN_CONTAINMENT = 0.7
"""Share of the sentence's content terms in the passage. Sentences of other documents of the same tenant
stay below it in 98 % of cases."""
MIN_TOGETHER = 0.6
"""Share of them within three sentences in a row."""
MIN_OF_TWO = 0.8
"""Share that two passages must hold together, each of them MIN_SHARE."""
MIN_SHARE = 0.4
_NEARLY_THE_SAME = 0.75
_TOGETHER = 3


@dataclass(frozen=True, slots=True)
class _Held:
    """One numbered passage."""

    n: int
    text: PassageText

    @property
    def stems(self) -> frozenset[str]:
        return self.text.stems

    @property
    def figures(self) -> Quantities:
        return self.text.quantities

    def holds(self, claim: Statement) -> bool:
        """Say whether it has most of the claim's words, and most of those in three sentences in a row, title
        and heading included. The runs are made where they are asked for: kept, they were the largest part of
        an answer's memory."""
        if claim.share_in(self.stems) < MIN_CONTAINMENT:
            return False
        head, statements = self.text.head.stems, self.text.statements
        runs = range(max(1, len(statements) - _TOGETHER + 1))
        return any(
            claim.share_in(head.union(*(one.stems for one in statements[run : run + _TOGETHER])))
            >= MIN_TOGETHER
            for run in runs
        )

    def contradicts(self, claim: Statement) -> bool:
        """Say whether all that this says nearly in the same words is the opposite."""
        same = [
            statement
            for statement in self.text.statements
            if claim.share_in(statement.stems) >= _NEARLY_THE_SAME
            and statement.share_in(claim.stems) >= _NEARLY_THE_SAME
        ]
        return bool(same) and all(claim.contradicts(statement) for statement in same)


class Attribution:
    """Attributes the sentences of one answer to its numbered sources, the first of which has number 1."""

    def __init__(self, passages: Sequence[PassageText], *, language: Language) -> None:
        self._language = language
        self._passages = passages

    @cached_property
    def _held(self) -> list[_Held]:
        """Made when the first sentence ends: until then the model is waited for, and no reader is."""
        return [_Held(n, passage) for n, passage in enumerate(self._passages, 1)]

    def attribute(self, span: SentenceSpan, *, index: int) -> Sentence:
        """Return the sentence with its citations, or with why it is unsupported."""
        claim = Statement.of(span.text, self._language)
        figures = quantities(span.text)
        citations, reasons = self._find(claim, figures)
        return Sentence(
            index=index,
            start=span.start,
            end=span.end,
            citations=citations,
            support=Support.SUPPORTED if citations else Support.UNSUPPORTED,
            reasons=reasons,
        )

    def _find(self, claim: Statement, figures: Quantities) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Return the citations, or every reason why there is none."""
        holding = [held for held in self._held if held.holds(claim)]
        agreeing = [held for held in holding if not held.contradicts(claim)]
        exact = [held for held in agreeing if not unsupported_figures(figures, held.figures)]
        if exact:
            return (max(exact, key=lambda held: (claim.share_in(held.stems), -held.n)).n,), ()
        if not holding and (pair := self._pair(claim, figures)):
            return pair, ()
        reasons: list[str] = []
        if not agreeing:
            reasons.append("negation_differs" if holding else "no_passage")
        nearest = agreeing or holding or self._held
        if all(unsupported_figures(figures, held.figures) for held in nearest) and figures != NO_FIGURES:
            reasons.append("number_not_in_passage")
        return (), tuple(reasons)

    def _pair(self, claim: Statement, figures: Quantities) -> tuple[int, int] | None:
        sharing = [held for held in self._held if claim.share_in(held.stems) >= MIN_SHARE]
        for one, other in combinations(sharing, 2):
            both = one.figures | other.figures
            if claim.share_in(one.stems | other.stems) >= MIN_OF_TWO and not unsupported_figures(
                figures, both
            ):
                return one.n, other.n
        return None
