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

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from assistant.answering.language import Language, fold
from assistant.answering.quantities import NO_FIGURES, Quantities, quantities, unsupported_figures
from assistant.answering.sentences import SentenceSpan, split_sentences
from assistant.domain.answers import Sentence, Support
from assistant.domain.documents import Passage

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
_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|none|cannot|without|neither|nor)\b|n't\b)((?:[^\w.,;:!?]+[\w']+){1,4})"
)
"""With the up to four words that it reaches."""


def _word_stems(text: str, language: Language) -> frozenset[str]:
    """Return the stems of a text's content words; figures are looked at on their own."""
    return frozenset(
        language.stem(word) for word in language.content_words(text) if word.replace("'", "").isalpha()
    )


@dataclass(frozen=True, slots=True)
class _Statement:
    stems: frozenset[str]
    negated: frozenset[str]
    """Stems of the words that a negation stands before."""

    @classmethod
    def of(cls, text: str, language: Language) -> _Statement:
        folded = fold(text)
        return cls(
            stems=_word_stems(folded, language),
            negated=frozenset(
                language.stem(word)
                for reach in _NEGATION.findall(folded)
                for word in islice(language.content_words(reach), 1)
            ),
        )

    def contradicts(self, other: _Statement) -> bool:
        """Say whether just one of the two negates anything, and that is a word that the other affirms."""
        if self.negated and other.negated:
            return False
        return bool(self.negated & other.stems or other.negated & self.stems)

    def share_in(self, stems: frozenset[str]) -> float:
        return len(self.stems & stems) / len(self.stems) if self.stems else 0.0


@dataclass(frozen=True, slots=True)
class _Held:
    """One passage, taken apart once for all sentences."""

    n: int
    stems: frozenset[str]
    together: tuple[frozenset[str], ...]
    """Stems of each run of three sentences, title and heading included."""
    statements: tuple[_Statement, ...]
    figures: Quantities

    @classmethod
    def of(cls, passage: Passage, *, n: int, language: Language) -> _Held:
        head = _word_stems(f"{passage.title}\n{passage.heading}", language)
        statements = tuple(_Statement.of(span.text, language) for span in split_sentences(passage.text))
        runs = range(max(1, len(statements) - _TOGETHER + 1))
        return cls(
            n=n,
            stems=head.union(*(statement.stems for statement in statements)),
            together=tuple(
                head.union(*(statement.stems for statement in statements[run : run + _TOGETHER]))
                for run in runs
            ),
            statements=statements,
            figures=quantities(passage.embedding_input),
        )

    def holds(self, claim: _Statement) -> bool:
        return (
            claim.share_in(self.stems) >= MIN_CONTAINMENT
            and max(claim.share_in(run) for run in self.together) >= MIN_TOGETHER
        )

    def contradicts(self, claim: _Statement) -> bool:
        """Say whether all that this says nearly in the same words is the opposite."""
        same = [
            statement
            for statement in self.statements
            if claim.share_in(statement.stems) >= _NEARLY_THE_SAME
            and statement.share_in(claim.stems) >= _NEARLY_THE_SAME
        ]
        return bool(same) and all(claim.contradicts(statement) for statement in same)


class Attribution:
    """Attributes the sentences of one answer to its numbered sources, the first of which has number 1."""

    def __init__(self, passages: Sequence[Passage], *, language: Language) -> None:
        self._language = language
        self._held = [_Held.of(passage, n=n, language=language) for n, passage in enumerate(passages, 1)]

    def attribute(self, span: SentenceSpan, *, index: int) -> Sentence:
        """Return the sentence with its citations, or with why it is unsupported."""
        claim = _Statement.of(span.text, self._language)
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

    def _find(self, claim: _Statement, figures: Quantities) -> tuple[tuple[int, ...], tuple[str, ...]]:
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

    def _pair(self, claim: _Statement, figures: Quantities) -> tuple[int, int] | None:
        sharing = [held for held in self._held if claim.share_in(held.stems) >= MIN_SHARE]
        for one, other in combinations(sharing, 2):
            both = one.figures | other.figures
            if claim.share_in(one.stems | other.stems) >= MIN_OF_TWO and not unsupported_figures(
                figures, both
            ):
                return one.n, other.n
        return None
