"""What is kept of an answer."""

from __future__ import annotations

import hashlib

import pytest

from assistant.answer.find import KEPT_CANDIDATES
from assistant.domain.answers import FinishReason, Outcome
from assistant.domain.documents import RRF_K, VECTOR_LEG_WEIGHT
from tests.fakes.answering import FakeTenant, agent, cosine, document, vector_of, word_score
from tests.unit.answer.asking_and_reading import QUESTION, ask

FIRST = "Retail refills are payable on day 23 of 30."


async def test_the_record_says_what_was_asked_by_whom_and_with_what_rights() -> None:
    identity = agent(labels=frozenset({"b", "a"}))
    record = (await ask(FakeTenant(), identity=identity, filters={"source": ["procedures"]})).record
    assert (record.agent, record.question, record.labels) == ("ana", QUESTION, ("a", "b"))
    assert record.filters.source == ("procedures",)
    assert record.asked_at <= record.finished_at


@pytest.mark.parametrize(
    "tenant",
    [
        FakeTenant(),
        FakeTenant.writing(f"{FIRST} [9", "] Send other requests", " to the Claims Desk."),
        FakeTenant.writing(f"{FIRST} Grapefruit", " is bitter."),
    ],
    ids=["quoted", "written", "both"],
)
async def test_the_record_is_made_from_what_was_streamed(tenant: FakeTenant) -> None:
    asked = await ask(tenant)
    record, done = asked.record, asked.done
    assert record.text == asked.text
    assert [sentence.model_dump() for sentence in record.sentences] == [
        sentence.model_dump() for sentence in asked.sentences
    ]
    assert (record.timings_ms, record.usage) == (done.timings_ms, done.usage)
    assert (record.outcome, record.finish_reason) == (Outcome.DONE, FinishReason.STOP)
    for name in (
        "mode",
        "certainty",
        "fallback",
        "also",
        "clarify",
        "escalation",
        "corrections",
    ):
        assert getattr(record, name) == getattr(done, name)


async def test_quoted_units_are_kept_by_their_place() -> None:
    tenant = FakeTenant()
    record = (await ask(tenant)).record
    unit, _ = record.quoted
    assert (unit.document_id, unit.content_hash, unit.span) == ("refill", "hash-of-refill", (0, len(FIRST)))
    assert record.schema_version == 3


async def test_the_record_names_model_prompt_settings_and_index() -> None:
    tenant = FakeTenant.writing()
    asked = await ask(tenant)
    record = asked.record
    assert asked.prompt is not None
    assert (record.model_id, record.model_digest) == ("model-1", "digest-1")
    assert (record.prompt_id, record.prompt_hash) == ("answer/6", asked.prompt.prompt_hash)
    assert (record.settings_hash, record.index_version) == (tenant.config.settings_hash(), "index-1")
    assert record.parameters == {"max_tokens": 409, "temperature": 0.0, "history_turns": 0}
    assert (record.inference_id, record.variant) == ("inference-1", "AllTraffic")


async def test_a_quoted_answer_has_no_variant_and_can_be_read_by_an_older_release() -> None:
    record = (await ask(FakeTenant())).record
    assert record.variant is None
    assert "variant" not in record.model_dump(mode="json")


async def test_the_record_keeps_passages_by_hash_and_with_raw_scores() -> None:
    others = [document(name, f"Parcels of {name} wait.", title=name) for name in ("transfer", "parcel")]
    tenant = FakeTenant.writing().with_documents(document(), *others)
    record = (await ask(tenant)).record
    first, _, third = record.passages
    [text] = [one.text for one in document().passages]
    assert first.text_hash == hashlib.sha256(text.encode()).hexdigest()
    assert (first.passage_id, first.content_hash, first.n, first.rank) == (
        "refill#0",
        "hash-of-refill",
        1,
        1,
    )
    assert first.cosine == pytest.approx(cosine(vector_of(QUESTION), document().passages[0].embedding_input))
    assert first.lexical_score == word_score(QUESTION, text)
    assert first.fused_score == pytest.approx((1 + VECTOR_LEG_WEIGHT) / (RRF_K + 1))
    assert [use.in_prompt for use in record.passages] == [True, True, True]
    assert third.document_id in {"transfer", "parcel"}
    assert text not in record.model_dump_json()


async def test_the_gate_s_decision_is_kept() -> None:
    asked = await ask(FakeTenant())
    decision = asked.record.gate
    assert decision == asked.quote.parts[0].finding.gate
    assert decision is not None
    assert (decision.passed, decision.min_cosine) == (True, 0.25)


async def test_what_ranking_knew_of_each_candidate_is_kept_with_the_weights_that_decided() -> None:
    tenant = FakeTenant().with_documents(document(), document("other", "Parcels wait.", title="Parcels"))
    record = (await ask(tenant)).record
    assert [one.document_id for one in record.candidates] == ["refill", "other"]
    assert {"title_cosine", "passage_cosine", "best_unit", "coverage"} <= set(record.candidates[0].features)
    assert set(record.weights) == {"ranker", "reranker", "reranker_vectors", "units", "unit_vectors", "near"}
    assert all(len(sha256) == 64 for sha256 in record.weights.values())


async def test_candidates_are_bounded() -> None:
    many = [document(f"d{n}", f"Retail refills of {n} are payable.", title=f"Refill {n}") for n in range(25)]
    assert len((await ask(FakeTenant().with_documents(*many))).record.candidates) == KEPT_CANDIDATES
