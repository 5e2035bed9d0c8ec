"""What is kept of an answer: texts of documents by place, which come back as they were shown."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.answer.excerpts import (
    Excerpts,
    Place,
    fill,
    fill_record,
    gone_from,
    read_excerpts,
    shown_again,
    shown_heading,
    shown_unit,
)
from assistant.answer.find import KEPT_CANDIDATES
from assistant.answer.section import snippet
from assistant.documents.files import SourceDocument
from assistant.documents.items import page_item
from assistant.documents.parsing import parse_document
from assistant.domain.answers import AnswerRecord, FinishReason, Outcome, ShownAs
from assistant.domain.documents import RRF_K, VECTOR_LEG_WEIGHT, ParsedDocument, Span, Unit, UnitKind
from assistant.service.stored import ReadAnswers
from assistant.text.safe_markdown import safe_markdown
from tests.contracts import samples
from tests.stage.answering import FakeTenant, agent, cosine, document, vector_of, word_score
from tests.stage.knowledge import ANSWER
from tests.stage.running_service import passages_of
from tests.unit.answer.asking_and_reading import QUESTION, ask

KNOWLEDGE = Path(__file__).parents[3] / "knowledge"
PAGES = sorted(path for path in KNOWLEDGE.rglob("*") if path.suffix in (".md", ".html"))
UNIT = Place("d", "h", ((0, 5),), ShownAs.UNIT)
TEXT = st.text(min_size=1, max_size=20)


def test_every_text_of_the_product_s_own_pages_comes_back_as_it_was_shown() -> None:
    """Units, headings and snippets, from the passages that an index has."""
    compared = 0
    for path in PAGES:
        item = page_item(path.name, path.read_bytes(), is_markdown=path.suffix == ".md")
        assert isinstance(item, SourceDocument), path
        parsed = parse_document(item.document)
        for passage in passages_of(item.document, parsed):
            excerpts = Excerpts()
            for asked in (frozenset[str](), frozenset(passage.units[-1].terms if passage.units else ())):
                snippet(passage, stems=asked, excerpts=excerpts)
            for unit in passage.units:
                span = (unit.span.start, unit.span.end)
                at = {"document_id": "d", "content_hash": "h", "spans": (span,)}
                excerpts.add(shown_unit(unit.text), Place(**at, shown_as=ShownAs.UNIT))
                heading = Place(**at, shown_as=ShownAs.HEADING, heading_letters=len(unit.heading))
                excerpts.add(shown_heading(unit.heading), heading)
            for shown, excerpt in excerpts.all():
                compared += 1
                assert shown_again(excerpt, parsed) == shown, (path.name, excerpt)
    assert compared > 200


def test_an_old_record_with_a_draft_opens_without_it() -> None:
    record = AnswerRecord.model_validate(ANSWER | {"reply_of": "a1"})
    shown = {one.mark: "x" * one.letters for one in record.excerpts if one.shown_as is not ShownAs.REPLY}
    assert len(shown) == len(record.excerpts) - 1
    assert gone_from(record, shown) == frozenset()
    kept = fill_record(record, shown).model_dump_json()
    assert "reply_draft" not in kept
    assert "reply_of" not in kept


@given(st.lists(TEXT, min_size=1, max_size=6, unique=True), st.lists(TEXT, max_size=6), st.data())
def test_what_is_kept_fills_to_the_same_text_and_has_its_length(
    shown: list[str], between: list[str], data: st.DataObject
) -> None:
    excerpts = Excerpts()
    for one in shown:
        excerpts.add(one, UNIT)
    text = "".join(data.draw(st.permutations([*shown, *between])))
    kept = excerpts.keep(text)
    assert len(kept) == len(text)
    assert fill(kept, {excerpt.mark: one for one, excerpt in excerpts.all()}) == text


@given(TEXT, TEXT)
def test_a_frame_fills_to_the_same_bytes(shown: str, around: str) -> None:
    """JSON escapes letter by letter, so a text that is put into JSON is what JSON would have made of it."""
    excerpts = Excerpts()
    excerpts.add(shown, UNIT)
    kept = orjson.dumps({"text": excerpts.keep(around + shown)}).decode()
    texts = {excerpt.mark: one for one, excerpt in excerpts.all()}
    filled = fill(kept, texts, encode=lambda text: orjson.dumps(text)[1:-1].decode())
    assert filled.encode() == orjson.dumps({"text": around + shown})


def test_another_text_is_never_shown_in_the_place_of_one_that_changed() -> None:
    excerpts = Excerpts()
    excerpts.add("Wait.", UNIT)
    [(_, excerpt)] = excerpts.all()
    unit = Unit(0, UnitKind.SENTENCE, "Wait.", Span(0, 5), "")
    assert shown_again(excerpt, ParsedDocument("Wait.", (), (unit,))) == "Wait."
    assert shown_again(excerpt, ParsedDocument("Come.", (), (unit,))) is None


async def test_a_kept_record_has_no_word_of_the_documents_that_it_quotes() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant)
    assert asked.text
    kept = asked.kept.model_dump_json()
    assert not any(text in kept for text in asked.text.split(". "))
    shown = await read_excerpts(asked.kept.excerpts, tenant.texts, labels=frozenset())
    assert fill_record(asked.kept, shown).text == asked.text


@pytest.mark.parametrize(("withdrawn", "turns"), [(set[str](), 1), ({"refill"}, 0)])
async def test_a_model_is_told_no_turn_from_before_one_that_showed_a_withdrawn_document(
    withdrawn: set[str], turns: int
) -> None:
    tenant = FakeTenant.writing()
    long_ago = {"asked_at": samples.NOON - timedelta(days=3_650), "finish_reason": FinishReason.STOP}
    before = samples.answer("a0", conversation_id="c0").model_copy(update=long_ago)
    await tenant.records.put_answer(before)
    await ask(tenant, conversation_id="c0")
    tenant.withdrawn |= withdrawn
    asked = await ask(tenant, conversation_id="c0")
    assert asked.prompt is not None
    assert asked.prompt.history_turns == turns


def test_a_quote_without_its_addresses_is_shown_as_an_older_release_showed_it() -> None:
    text = "Sign in at https://pay.example/x with the card."
    excerpts = Excerpts()
    excerpts.add(safe_markdown(text, allowed_urls=()), Place("d", "h", ((0, len(text)),), ShownAs.UNIT))
    [(shown, excerpt)] = excerpts.all()
    assert shown_again(excerpt, ParsedDocument(text, ())) == shown == "Sign in at with the card."


async def test_a_record_of_an_older_release_is_read_as_it_is() -> None:
    older = orjson.loads(samples.answer().model_dump_json(exclude={"excerpts"})) | {"schema_version": 2}
    tenant = FakeTenant()
    await tenant.records.put_answer(AnswerRecord.model_validate_json(orjson.dumps(older)))
    reading = await ReadAnswers(tenant.services).one("a1", identity=agent("ana"))
    assert (reading.record.text, reading.record.schema_version) == ("On day 24.", 2)


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
    for name in ["mode", "certainty", "fallback", "also", "clarify", "escalation", "corrections"]:
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


async def test_candidates_are_bounded() -> None:
    many = [document(f"d{n}", f"Retail refills of {n} are payable.", title=f"Refill {n}") for n in range(25)]
    assert len((await ask(FakeTenant().with_documents(*many))).record.candidates) == KEPT_CANDIDATES
