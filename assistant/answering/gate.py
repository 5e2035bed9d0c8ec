"""Decides whether there is evidence for an answer, before any model writes, from raw scores only.

A logistic model (a weights file of kind ``gate``) reads what the best document has in common with the
question, never a fused score, and returns the probability that this document answers it. The tenant file's
two thresholds, calibrated on the tuning half of its questions, give three outcomes: *answered*; *possibly*,
where the nearest units are quoted and the agent must check; *not in the knowledge base*. A code that
the question names ("reject 79") and the document does not contain leads to the third, whatever the scores:
the document of a neighbouring code is similar and wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from assistant.answering.quote import QuestionTerms, ScoredUnit
from assistant.answering.retrieve import RankedDocument, Weights
from assistant.answering.understand import Term, codes_in
from assistant.domain.answers import Certainty, GateDecision
from assistant.domain.documents import StoredDocument
from assistant.settings.tenant import GateSection

USUAL_PEAK = 0.11
"""By how much the nearest unit is usually nearer than the mean of the units. It is used where units have no
vectors: a late embedding endpoint does not make the gate refuse an answer."""
_WINDOW = 3
"""Consecutive units that a statement and its context take at most."""
_LEAST_OWN_COVERAGE = 0.25
"""Share of a follow-up's own terms that the document must contain, unless only one is missing ("and by
mail?")."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The gate's decision, and how sure the answer is."""

    decision: GateDecision
    certainty: Certainty | None
    """None: not in the knowledge base."""


def gate_features(
    asked: QuestionTerms,
    ranked: Sequence[RankedDocument],
    scored: Sequence[ScoredUnit],
    *,
    stems: frozenset[str],
    unknown: Collection[str] = (),
    unit_cosines: Collection[float] = (),
) -> dict[str, float]:
    """Return the features of the best document, which is first in ``ranked``.

    ``stems``: all of the document's, title and headings included. ``unknown``: words of the question that no
    document of the tenant has. ``unit_cosines``: of the units that were embedded.
    """
    best = ranked[0]
    windows = [
        frozenset[str]().union(*(one.unit.terms for one in scored[at : at + _WINDOW]))
        for at in range(max(1, len(scored) - _WINDOW + 1))
    ]
    passage_cosine = best.features.get("passage_cosine", 0.0)
    unit_cosine = max(unit_cosines, default=passage_cosine)
    return {
        "passage_cosine": passage_cosine,
        "title_cosine": best.features.get("title_cosine", 0.0),
        "coverage": asked.coverage(stems),
        "coverage_together": max((asked.coverage(window) for window in windows), default=0.0),
        "best_unit": max((one.score for one in scored), default=0.0) / 10,
        "margin": best.score - ranked[1].score if len(ranked) > 1 else 1.0,
        "text_score": best.features.get("text_score", 0.0) / (10 * asked.weight),
        "few_terms": 1.0 / max(1, len(asked.terms)),
        "unknown": sum(term.weight for term in asked.terms if term.word in unknown) / asked.weight,
        "heaviest_missing": max((term.weight for term in asked.terms if not term.forms & stems), default=0.0),
        "title_number": best.features.get("title_number", 0.0),
        "title_opposed": best.features.get("title_opposed", 0.0),
        "unit_cosine": unit_cosine,
        "unit_peak": unit_cosine - fmean(unit_cosines) if unit_cosines else USUAL_PEAK,
    }


@dataclass(frozen=True, slots=True)
class Gate:
    """One tenant's gate."""

    weights: Weights
    thresholds: GateSection

    def judge(
        self,
        features: Mapping[str, float],
        *,
        terms: Sequence[Term],
        missing_codes: Sequence[str],
        stems: frozenset[str],
        own_terms: Sequence[Term] = (),
    ) -> Judged:
        """Decide whether the best document, which has these stems, answers the question.

        ``missing_codes``: codes that the question names and the document does not contain. ``own_terms``: of
        a question that was searched together with the one before it though it makes sense alone. The scores
        depend on both, so a change of subject would pass by the scores of the earlier question.
        """
        missing = sorted((term for term in terms if not term.forms & stems), key=lambda term: -term.weight)
        is_refused = bool(missing_codes) or _changes_subject(own_terms, stems)
        probability = 0.0 if is_refused else self.weights.probability(features)
        certainty = None
        if probability >= self.thresholds.possibly:
            is_sure = probability >= self.thresholds.answered
            certainty = Certainty.ANSWERED if is_sure else Certainty.POSSIBLY
        decision = GateDecision(
            passed=certainty is not None,
            best_cosine=round(features.get("passage_cosine", 0.0), 4),
            coverage=round(features.get("coverage", 0.0), 4),
            missing_terms=tuple(dict.fromkeys((*missing_codes, *(term.word for term in missing)))),
            probability=round(probability, 4),
            answered_from=self.thresholds.answered,
            possibly_from=self.thresholds.possibly,
        )
        return Judged(decision, certainty)


def _changes_subject(own_terms: Sequence[Term], stems: frozenset[str]) -> bool:
    missing = [term.weight for term in own_terms if not term.forms & stems]
    own_weight = sum(term.weight for term in own_terms)
    return len(missing) > 1 and sum(missing) > (1 - _LEAST_OWN_COVERAGE) * own_weight


def missing_in(named_codes: Sequence[str], document: StoredDocument) -> tuple[str, ...]:
    """Return the codes that the document does not contain."""
    if not named_codes:
        return ()
    held = codes_in("\n".join((document.card.title, *(passage.text for passage in document.passages))))
    return tuple(code for code in named_codes if code not in held)


NOTHING_VISIBLE = GateDecision(passed=False, best_cosine=0.0, coverage=0.0, probability=0.0)
"""The decision where filters and access labels exclude every document."""


def explain(decision: GateDecision, *, title: str | None) -> str:
    """Return why there is no answer, for the agent. ``title``: of the nearest document."""
    if title is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    missing = [f"“{term}”" for term in decision.missing_terms[:3]]
    said = f", which says nothing of {_listed(missing)}" if missing else ""
    return f"Not in the knowledge base. The nearest document is “{title}”{said}."


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
