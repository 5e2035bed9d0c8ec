"""Is there evidence for an answer? Decided before any model writes, from raw scores only.

A logistic model (``learned.py``, kind ``gate``) reads what the best document has in common with the question,
never a fused score, and gives the probability that this document answers it. The tenant file's two
thresholds, calibrated on the tuning half of its questions, make three outcomes of it: *answered*; *possibly
here*, where the nearest units are quoted and the agent is told to check; *not in the knowledge base*. A code
that the question names ("reject 79") and the document does not hold is silence, whatever the scores: a
neighbouring code's document is similar and wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from assistant.answering.quote import AskedOf, ScoredUnit
from assistant.answering.retrieve import RankedDocument, Weights
from assistant.answering.understand import Term, codes_in
from assistant.domain.answers import Certainty, GateDecision
from assistant.domain.documents import StoredDocument
from assistant.settings.tenant import GateSection

_WINDOW = 3
"""Units in a row that a statement and what it leans on take at most."""
_LEAST_OWN_COVERAGE = 0.25
"""Share of a follow-up's own terms that the document holds, unless only one is missing ("and by mail?")."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The gate's decision, and what an agent is told of it."""

    decision: GateDecision
    certainty: Certainty | None
    """None: not in the knowledge base."""
    features: Mapping[str, float]


def gate_features(
    terms: Sequence[Term],
    ranked: Sequence[RankedDocument],
    scored: Sequence[ScoredUnit],
    *,
    held: frozenset[str],
    unknown: Collection[str] = (),
) -> dict[str, float]:
    """Return what the gate reads of the best document. ``ranked`` has it first; ``held`` are all its stems,
    title and headings included. ``unknown``: words of the question that no document of the tenant has."""
    best = ranked[0]
    asked = AskedOf(tuple(terms), "")
    windows = [
        frozenset[str]().union(*(one.unit.terms for one in scored[at : at + _WINDOW]))
        for at in range(max(1, len(scored) - _WINDOW + 1))
    ]
    return {
        "passage_cosine": best.features.get("passage_cosine", 0.0),
        "title_cosine": best.features.get("title_cosine", 0.0),
        "coverage": asked.coverage(held),
        "coverage_together": max((asked.coverage(window) for window in windows), default=0.0),
        "best_unit": max((one.score for one in scored), default=0.0) / 10,
        "margin": best.score - ranked[1].score if len(ranked) > 1 else 1.0,
        "text_score": best.features.get("text_score", 0.0) / (10 * asked.weight),
        "few_terms": 1.0 / max(1, len(terms)),
        "unknown": sum(term.weight for term in terms if term.word in unknown) / asked.weight,
        "heaviest_missing": max((term.weight for term in terms if not term.forms & held), default=0.0),
        "title_number": best.features.get("title_number", 0.0),
        "title_opposed": best.features.get("title_opposed", 0.0),
    }


def judge(
    features: Mapping[str, float],
    *,
    terms: Sequence[Term],
    named_codes: Sequence[str],
    document: StoredDocument,
    held: frozenset[str],
    weights: Weights,
    thresholds: GateSection,
    own_terms: Sequence[Term] = (),
) -> Judged:
    """Decide whether the best document, which holds these stems, answers the question.

    ``own_terms``: of a question that was searched together with the one before it though it does not lean on
    that. The scores say as much of that one, so a change of subject would pass by them.
    """
    missing = sorted((term for term in terms if not term.forms & held), key=lambda term: -term.weight)
    missing_codes = missing_in(named_codes, document) if named_codes else ()
    is_other_subject = _speaks_of_something_else(own_terms, held)
    probability = 0.0 if missing_codes or is_other_subject else weights.probability(features)
    certainty = None
    if probability >= thresholds.possibly:
        certainty = Certainty.ANSWERED if probability >= thresholds.answered else Certainty.POSSIBLY
    decision = GateDecision(
        passed=certainty is not None,
        best_cosine=round(features.get("passage_cosine", 0.0), 4),
        coverage=round(features.get("coverage", 0.0), 4),
        missing_terms=tuple(dict.fromkeys((*missing_codes, *(term.word for term in missing)))),
        probability=round(probability, 4),
        answered_from=thresholds.answered,
        possibly_from=thresholds.possibly,
    )
    return Judged(decision, certainty, features)


def _speaks_of_something_else(own_terms: Sequence[Term], held: frozenset[str]) -> bool:
    missing = [term.weight for term in own_terms if not term.forms & held]
    own_weight = sum(term.weight for term in own_terms)
    return len(missing) > 1 and sum(missing) > (1 - _LEAST_OWN_COVERAGE) * own_weight


def missing_in(named_codes: Sequence[str], document: StoredDocument) -> tuple[str, ...]:
    """Return the codes that the document does not hold."""
    held = codes_in("\n".join((document.card.title, *(passage.text for passage in document.passages))))
    return tuple(code for code in named_codes if code not in held)


NOTHING_VISIBLE = GateDecision(passed=False, best_cosine=0.0, coverage=0.0, probability=0.0)
"""Where no document is let through by filters and access rights."""


def explain(decision: GateDecision, *, title: str | None) -> str:
    """Return in an agent's words why nothing was answered. ``title``: of the nearest document."""
    if title is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    missing = [f"“{term}”" for term in decision.missing_terms[:3]]
    said = f"Nothing in it speaks of {_listed(missing)}. " if missing else ""
    return f"Not in the knowledge base. {said}The nearest document is “{title}”."


def _listed(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
