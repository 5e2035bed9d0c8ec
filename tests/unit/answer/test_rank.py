"""Documents ranked by standardised raw scores, and their units."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.find import DOCUMENTS_READ, Finding
from assistant.answer.message import PartQuery
from assistant.answer.scores import (
    QuestionTerms,
    RankedDocument,
    ScoredUnit,
    UnitScorer,
    Weights,
    best_first,
    candidates,
    standardised,
)
from assistant.answer.section import PartQuote
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.clock import Deadline
from assistant.domain.documents import PassageHit, Retrieved
from assistant.evaluation.judging import untraced
from assistant.text.language import language
from tests.fakes.answering import FakeTenant, document, vector_of


def weights(**features: float) -> Weights:
    return Weights(features, bias=0.0, sha256="0")


def test_a_candidate_that_a_leg_did_not_find_has_the_leg_s_lowest_score() -> None:
    standard = standardised({"a": {"x": 5.0}, "b": {"x": 2.0}, "c": {}}, ["x"])
    assert standard["c"]["x"] == standard["b"]["x"] < standard["a"]["x"]


def test_a_candidate_has_the_scores_of_its_best_passages() -> None:
    hits = (
        PassageHit("a#0", "a", 5.0, 0.9),
        PassageHit("a#1", "a", 2.0, 0.5),
        PassageHit("a#2", "a", 1.0, 0.1),
    )
    found = candidates(Retrieved(passages=(), best_cosine=0.9, index_version="v", hits=hits))
    assert found == {
        "a": {"passage_score": 5.0, "passage_cosine": 0.9, "passage_cosine_2": pytest.approx(0.7)}
    }


def test_scores_that_differ_beyond_four_decimals_are_equal() -> None:
    nearly = [RankedDocument("b", 1.00001, {}), RankedDocument("a", 1.0, {}), RankedDocument("c", 1.1, {})]
    assert [one.document_id for one in best_first(nearly)] == ["c", "a", "b"]


# In the whole of retrieval

REJECTS = [
    document("seventy", "Reject 70 means not covered. Ask for another medicine.", title="Reject 70"),
    document("seventy-five", "Reject 75 means prior authorization. Ask the prescriber.", title="Reject 75"),
    document("seventy-nine", "Refill too soon. Wait for the day.", title="Reject 079"),
    document("eighty", "Reject 80 means a diagnosis code. Ask the prescriber.", title="Reject 80"),
]


async def ranked_of(question: str, tenant: FakeTenant) -> tuple[Finding, PartQuote]:
    answer = AnswerQuestion(tenant.services)
    call = untraced(Deadline.after(60, clock=tenant.clock))
    [finding] = await answer.find.run([PartQuery(question, vector_of(question))], call)
    return finding, await answer.quote.choose.run(finding, call)


async def evidence(question: str, tenant: FakeTenant) -> Finding:
    return (await ranked_of(question, tenant))[1].finding


async def test_of_titles_with_numbers_the_one_with_the_question_s_comes_first() -> None:
    titles = [document(f"r{n}", "Ask the prescriber.", title=f"Reject {n}") for n in (70, 75, 80)]
    found = await evidence("What do I do about reject 075?", FakeTenant().with_documents(*titles))
    assert found.best is not None
    assert found.best.card.document_id == "r75"
    features = found.order[0].features
    assert (features["title_number"], features["title_other_number"]) == (1.0, 0.0)


async def test_a_model_reads_the_best_by_its_words_before_the_best_by_the_index() -> None:
    titles = [document(f"r{n}", "Ask the prescriber.", title=f"Reject {n}") for n in (70, 75, 80)]
    question = "What do I do about reject 080?"
    found, _ = await ranked_of(question, FakeTenant().with_documents(*titles))
    assert [one.document_id for one in found.order] == ["r70", "r75", "r80"]
    assert [one.card.document_id for one in found.for_model] == ["r80", "r70", "r75"]


async def test_a_listed_question_counts_for_more_than_the_same_words_in_the_text() -> None:
    text = "A suitcase went missing. Ask the desk."
    in_text = document("a", text, title="Losses")
    listed = document("b", text, title="Losses", questions=("Is a missing suitcase replaced?",))
    found = await evidence("My suitcase is missing.", FakeTenant().with_documents(in_text, listed))
    assert [(one.document_id, one.features["names"]) for one in found.order] == [("b", 1.0), ("a", 0.0)]


async def test_a_title_with_another_number_than_the_question_s_is_known() -> None:
    tenant = FakeTenant().with_documents(REJECTS[3])
    found = await evidence("Reject 81 means a diagnosis code?", tenant)
    assert found.order[0].features["title_other_number"] == 1.0


async def test_what_was_not_read_stays_behind_what_was() -> None:
    many = [document(f"d{n}", f"Refills of {n} wait.", title=f"Refill {n}") for n in range(9)]
    found = await evidence("Which refills wait?", FakeTenant().with_documents(*many))
    assert len(found.order) == 9
    assert set(found.documents) == {one.document_id for one in found.order[:DOCUMENTS_READ]}
    scores = [one.score for one in found.order]
    assert scores == sorted(scores, reverse=True)


async def test_a_document_that_went_away_is_not_the_best() -> None:
    tenant = FakeTenant().with_documents(*REJECTS)
    tenant.search.gone = {"eighty"}
    found = await evidence("claim came back with code 80", tenant)
    assert found.best is not None
    assert found.best.card.document_id != "eighty"


async def test_a_title_that_is_near_passes_the_gate_though_no_passage_is() -> None:
    question = "Which refills wait?"
    far = document("d", "Ask the prescriber of the medicine for a new one.", title=question)
    found, _ = await ranked_of(question, FakeTenant().with_documents(far))
    assert max(hit.cosine or 0.0 for hit in found.retrieved.hits) < 0.9
    assert (found.gate.passed, found.gate.best_cosine) == (True, 1.0)


# Units


def unit_scores(question: str, content: str, cosines: Mapping[int, float] | None = None) -> list[ScoredUnit]:
    scorer, words = UnitScorer(language("en")), Vocabulary(language("en"), glossary={})
    asked = QuestionTerms(words.terms(question))
    scored = scorer.score(asked, document(content=content), passage_cosines={})
    return list(scorer.score_again(scored, cosines or {}))


def test_a_unit_without_a_vector_gets_the_lowest_cosine() -> None:
    found = unit_scores("refills", "Alpha. Bravo. Charlie.", {0: 0.5, 2: 0.9})
    assert [one.features["unit_cosine"] for one in found] == [0.5, 0.5, 0.9]
    assert "unit_cosine" not in unit_scores("refills", "Alpha.")[0].features
