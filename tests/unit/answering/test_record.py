"""What is kept of an answer."""

from __future__ import annotations

import hashlib

from assistant.domain.answers import AnswerRecord, FinishReason, Outcome
from tests.fakes.answering import FakeTenant, ScriptedGenerator, agent, passage
from tests.unit.answering.asking_and_reading import QUESTION, ask


async def test_the_record_says_what_was_asked_by_whom_and_with_what_rights() -> None:
    identity = agent(labels=frozenset({"b", "a"}))
    record = (await ask(FakeTenant(), identity=identity, filters={"source": ["procedures"]})).record
    assert (record.agent, record.question, record.labels) == ("ana", QUESTION, ("a", "b"))
    assert record.filters.source == ("procedures",)
    assert record.asked_at <= record.finished_at


async def test_the_record_is_made_from_what_was_streamed() -> None:
    generator = ScriptedGenerator("Payable on day 23 [9", "]. Grapefruit", " is bitter.")
    asked = await ask(FakeTenant(generator=generator))
    record = asked.record
    assert record.text == asked.text
    assert [sentence.model_dump() for sentence in record.sentences] == [
        sentence.model_dump() for sentence in asked.sentences
    ]
    assert record.timings_ms == asked.done.timings_ms
    assert record.usage == asked.done.usage
    assert (record.outcome, record.finish_reason) == (Outcome.DONE, FinishReason.STOP)


async def test_text_held_back_until_the_end_is_kept_too() -> None:
    asked = await ask(FakeTenant(generator=ScriptedGenerator("Payable on day 23 [see", " page [1")))
    assert asked.record.text == asked.text == "Payable on day 23 [see page [1"


async def test_the_record_names_model_prompt_settings_and_index() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant)
    record = asked.record
    assert asked.prepared.prompt is not None
    assert (record.model_id, record.model_digest) == ("model-1", "digest-1")
    assert (record.prompt_id, record.prompt_hash) == ("answer/1", asked.prepared.prompt.prompt_hash)
    assert (record.settings_hash, record.index_version) == (tenant.config.settings_hash(), "index-1")
    assert record.parameters == {"max_tokens": 256, "temperature": 0.0, "history_turns": 0}
    assert record.inference_id == "inference-1"


async def test_the_record_keeps_passages_by_hash_and_with_raw_scores() -> None:
    tenant = FakeTenant().with_passages(passage(), passage("transfer"), passage("parcel"))
    record = (await ask(tenant)).record
    first, _, third = record.passages
    assert first.text_hash == hashlib.sha256(passage().text.encode()).hexdigest()
    assert (first.passage_id, first.content_hash, first.n, first.rank) == (
        "refill#0",
        "hash-of-refill",
        1,
        1,
    )
    assert (first.cosine, first.lexical_score, first.fused_score) == (0.8, 10.0, 2 / 61)
    assert [use.in_prompt for use in record.passages] == [True, True, False]
    assert third.document_id == "parcel"
    assert passage().text not in record.model_dump_json()


async def test_dropped_passages_are_counted() -> None:
    long = "refills payable day " * 60
    tenant = FakeTenant().with_passages(passage(text=long), passage(text=long))
    tenant.configure(generation={"context_tokens": 420, "max_tokens": 100})
    record = (await ask(tenant)).record
    assert record.dropped_passages == 1
    assert [use.in_prompt for use in record.passages] == [True, False]


async def test_the_gate_s_decision_is_kept() -> None:
    record = (await ask(FakeTenant())).record
    assert record.gate is not None
    assert (record.gate.passed, record.gate.best_cosine) == (True, 0.8)


async def test_a_record_reads_back_from_json() -> None:
    record = (await ask(FakeTenant())).record
    assert AnswerRecord.model_validate_json(record.model_dump_json()) == record
