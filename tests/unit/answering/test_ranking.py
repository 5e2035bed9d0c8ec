"""Documents ranked by standardised raw scores."""

from __future__ import annotations

import pytest

from assistant.answering.evidence import Evidence, EvidenceQuery, FindEvidence
from assistant.answering.retrieve import SearchScope, Weights, WeightsFile, candidates, rank, standardised
from assistant.domain.clock import Deadline
from assistant.domain.documents import DocumentHit, PassageHit, Retrieved
from tests.fakes.answering import FakeTenant, document


def weights(**features: float) -> Weights:
    return Weights(WeightsFile(kind="ranker", features=features, fitted_on="a test"), sha256="0")


def retrieved(hits: list[PassageHit], documents: list[DocumentHit]) -> Retrieved:
    return Retrieved((), best_cosine=0.0, index_version="1", hits=tuple(hits), documents=tuple(documents))


def test_a_document_has_its_best_passage_score_and_its_two_best_cosines() -> None:
    found = candidates(
        retrieved(
            [
                PassageHit("a#0", "a", 4.0, 0.2),
                PassageHit("a#1", "a", 9.0, 0.6),
                PassageHit("a#2", "a", None, 0.4),
            ],
            [DocumentHit("a", 0.7, 3.0, 8.0)],
        )
    )
    assert found == {
        "a": {
            "title_cosine": 0.7,
            "title_score": 3.0,
            "text_score": 8.0,
            "passage_score": 9.0,
            "passage_cosine": 0.6,
            "passage_cosine_2": pytest.approx(0.5),
        }
    }


def test_what_no_leg_gave_is_absent_and_not_0() -> None:
    found = candidates(retrieved([PassageHit("a#0", "a", None, 0.5)], [DocumentHit("b", None, None, 2.0)]))
    assert found == {"a": {"passage_cosine": 0.5, "passage_cosine_2": 0.5}, "b": {"text_score": 2.0}}


def test_a_passage_of_a_document_that_no_leg_of_documents_found_is_a_candidate() -> None:
    assert set(candidates(retrieved([PassageHit("a#0", "a", 1.0, None)], []))) == {"a"}


def test_nothing_found_is_no_candidate() -> None:
    assert candidates(retrieved([], [])) == {}
    assert rank({}, weights=weights(title_cosine=1.0)) == []


def test_a_feature_has_mean_0_and_deviation_1_over_the_candidates() -> None:
    standard = standardised({"a": {"x": 1.0}, "b": {"x": 2.0}, "c": {"x": 6.0}}, ["x"])
    values = [one["x"] for one in standard.values()]
    assert sum(values) == pytest.approx(0.0)
    assert sum(value * value for value in values) / 3 == pytest.approx(1.0)
    assert values == sorted(values)


def test_the_scale_of_a_feature_does_not_matter() -> None:
    small = standardised({"a": {"x": 0.1}, "b": {"x": 0.3}, "c": {"x": 0.2}}, ["x"])
    large = standardised({"a": {"x": 110.0}, "b": {"x": 130.0}, "c": {"x": 120.0}}, ["x"])
    for name in "abc":
        assert small[name]["x"] == pytest.approx(large[name]["x"])


def test_a_candidate_that_a_leg_did_not_find_has_the_leg_s_lowest_score() -> None:
    standard = standardised({"a": {"x": 5.0}, "b": {"x": 2.0}, "c": {}}, ["x"])
    assert standard["c"]["x"] == standard["b"]["x"] < standard["a"]["x"]


@pytest.mark.parametrize(
    "values", [{"a": {"x": 3.0}, "b": {"x": 3.0}}, {"a": {"x": 3.0}}, {"a": {}, "b": {}}]
)
def test_a_feature_that_tells_nobody_apart_counts_nothing(values: dict[str, dict[str, float]]) -> None:
    assert {one.get("x", 0.0) for one in standardised(values, ["x"]).values()} == {0.0}


def test_the_best_comes_first_with_its_raw_features() -> None:
    found = {"low": {"title_cosine": 0.1}, "high": {"title_cosine": 0.9}}
    best, other = rank(found, weights=weights(title_cosine=1.0))
    assert (best.document_id, other.document_id) == ("high", "low")
    assert best.score > other.score
    assert best.features == {"title_cosine": 0.9}


def test_weights_decide_between_legs() -> None:
    found = {
        "words": {"text_score": 9.0, "title_cosine": 0.1},
        "meaning": {"text_score": 1.0, "title_cosine": 0.9},
    }
    assert rank(found, weights=weights(text_score=2.0, title_cosine=1.0))[0].document_id == "words"
    assert rank(found, weights=weights(text_score=1.0, title_cosine=2.0))[0].document_id == "meaning"


def test_what_was_learned_of_a_document_is_added_to_its_score() -> None:
    learned = WeightsFile(
        kind="ranker", features={"title_cosine": 1.0}, documents={"b": 2.5}, fitted_on="a test"
    )
    found = {"a": {"title_cosine": 0.9}, "b": {"title_cosine": 0.1}}
    ranked = rank(found, weights=Weights(learned, sha256="0"))
    assert [(one.document_id, one.score) for one in ranked] == [
        ("b", pytest.approx(1.5)),
        ("a", pytest.approx(1.0)),
    ]


def test_ties_come_in_order_of_their_ids() -> None:
    found = {name: {"title_cosine": 0.5} for name in ("m", "c", "x", "a")}
    assert [one.document_id for one in rank(found, weights=weights(title_cosine=1.0))] == ["a", "c", "m", "x"]


# Named codes and titles, in the whole of retrieval

REJECTS = [
    document("seventy", "Reject 70 means not covered. Ask for another medicine.", title="Reject 70"),
    document("seventy-five", "Reject 75 means prior authorization. Ask the prescriber.", title="Reject 75"),
    document("seventy-nine", "Refill too soon. Wait for the day.", title="Reject 079"),
    document("eighty", "Reject 80 means a diagnosis code. Ask the prescriber.", title="Reject 80"),
]


async def evidence(question: str, tenant: FakeTenant) -> Evidence:
    services = tenant.services
    return await FindEvidence(services).find(
        EvidenceQuery(question), SearchScope.untraced(Deadline.after(60, clock=services.clock))
    )


@pytest.mark.parametrize(
    ("question", "document_id"),
    [
        ("what do I do about reject 79", "seventy-nine"),
        ("claim came back with code 80", "eighty"),
        ("rejection code 075, what does it mean", "seventy-five"),
    ],
)
async def test_the_document_that_holds_a_named_code_comes_first(question: str, document_id: str) -> None:
    found = await evidence(question, FakeTenant().with_documents(*REJECTS))
    assert found.ranked[0].document_id == document_id


async def test_a_named_code_is_found_among_documents_that_are_all_nearer() -> None:
    others = [document(f"r{n}", f"Reject {n} means wait.", title=f"Reject {n}") for n in range(100, 130)]
    last = document("z", "Parcel notes of the courier. Code 79 is for lost ones.", title="Parcels")
    found = await evidence("what is reject 79", FakeTenant().with_documents(*others, last))
    scores = [one.score for one in found.ranked]
    assert found.ranked[0].document_id == "z"
    assert scores == sorted(scores, reverse=True)


async def test_of_those_that_hold_a_named_code_the_nearest_comes_first() -> None:
    found = await evidence(
        "what do I do about reject 70 after 79 days",
        FakeTenant().with_documents(
            *REJECTS, document("register", "Codes of parcels: 70, 71.", title="Register")
        ),
    )
    assert [one.document_id for one in found.ranked[:2]] == ["seventy", "register"]


async def test_no_document_holds_the_named_code() -> None:
    found = await evidence("what do I do about reject 99", FakeTenant().with_documents(*REJECTS))
    assert (found.certainty, found.gate.missing_terms[0]) == (None, "99")


async def test_a_title_that_denies_what_the_question_says_is_not_its_document() -> None:
    titles = {"yes": "Controlled refills", "no": "Refills that are not controlled"}
    tenant = FakeTenant().with_documents(
        *(document(name, "Refills wait for day 23.", title=title) for name, title in titles.items())
    )
    asked = await evidence("refills of a medicine that is not controlled", tenant)
    assert asked.ranked[0].document_id == "no"
    asked = await evidence("refills of a controlled medicine", tenant)
    assert asked.ranked[0].document_id == "yes"


async def test_what_was_not_read_stays_behind_what_was() -> None:
    many = [document(f"d{n}", f"Refills of {n} wait.", title=f"Refill {n}") for n in range(9)]
    found = await evidence("Which refills wait?", FakeTenant().with_documents(*many))
    assert len(found.ranked) == 9
    assert set(found.documents) == {one.document_id for one in found.ranked[:4]}
    scores = [one.score for one in found.ranked]
    assert scores == sorted(scores, reverse=True)


async def test_a_document_that_went_away_is_not_the_best() -> None:
    tenant = FakeTenant().with_documents(*REJECTS)
    tenant.search.gone = {"eighty"}
    found = await evidence("claim came back with code 80", tenant)
    assert found.best is not None
    assert found.best.card.document_id != "eighty"
    assert found.certainty is None
