"""Texts of documents are kept by place, and come back as they were shown."""

from __future__ import annotations

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
    stand_in,
)
from assistant.answer.section import snippet
from assistant.documents.files import SourceDocument
from assistant.documents.items import page_item
from assistant.documents.parsing import parse_document
from assistant.domain.answers import AnswerRecord, FinishReason, ShownAs
from assistant.domain.documents import ParsedDocument, Span, Unit, UnitKind
from assistant.service.stored import ReadAnswers
from assistant.text.safe_markdown import safe_markdown
from tests.contracts import samples
from tests.fakes.answering import FakeTenant, agent
from tests.fakes.running_service import passages_of
from tests.unit.answer.asking_and_reading import ask
from tests.unit.release_before import ANSWER

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


def test_the_longer_of_two_texts_is_taken_whole() -> None:
    excerpts = Excerpts()
    excerpts.add("Wait.", UNIT)
    excerpts.add("Wait. Then call.", Place("d", "h", ((0, 16),), ShownAs.UNIT))
    [used] = excerpts.used_in(excerpts.keep("Wait. Then call."))
    assert used.spans == ((0, 16),)


def test_another_text_is_never_shown_in_the_place_of_one_that_changed() -> None:
    excerpts = Excerpts()
    excerpts.add("Wait.", UNIT)
    [(_, excerpt)] = excerpts.all()
    unit = Unit(0, UnitKind.SENTENCE, "Wait.", Span(0, 5), "")
    assert shown_again(excerpt, ParsedDocument("Wait.", (), (unit,))) == "Wait."
    assert shown_again(excerpt, ParsedDocument("Come.", (), (unit,))) is None


def test_a_notice_has_the_length_of_the_text_that_is_gone() -> None:
    assert [len(stand_in(samples.excerpt().model_copy(update={"letters": n}))) for n in (1, 12, 90)] == [
        1,
        12,
        90,
    ]


async def test_a_kept_record_has_no_word_of_the_documents_that_it_quotes() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant)
    assert asked.text
    kept = asked.kept.model_dump_json()
    assert not any(text in kept for text in asked.text.split(". "))
    shown = await read_excerpts(asked.kept.excerpts, tenant.texts, labels=frozenset())
    assert fill_record(asked.kept, shown).text == asked.text


async def test_a_turn_that_showed_a_withdrawn_document_is_not_told_to_a_model() -> None:
    tenant = FakeTenant.writing()
    first = await ask(tenant)
    told = await ask(tenant, conversation_id=first.started.conversation_id)
    assert told.prompt is not None
    assert told.prompt.history_turns == 1
    tenant.withdrawn.add("refill")
    untold = await ask(tenant, conversation_id=first.started.conversation_id)
    assert untold.prompt is not None
    assert untold.prompt.history_turns == 0


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


# What releases before this one have written


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
