"""What the stand-ins send, read by the product's own parsers, and what their DynamoDB keeps and refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant.answering.prompt import Prompt, PromptDocument
from assistant.answering.stream import AnswerText
from assistant.aws.event_stream import ChatChunkParser, EventStreamParser
from assistant.local.gateway import ResponseCutter
from assistant.text.language import language
from tools.load.stand_ins import AnswerFrames, RefusedError, Tables, UnknownCallError, framed, sse_chunk
from tools.load.workload import (
    READ_DOCUMENTS,
    VARIANTS,
    document,
    expected_text,
    first_piece,
    later_pieces,
    question,
    tag_in,
    tag_of,
    variant_of,
)

NUMBER = 4_711


def test_the_products_parsers_read_the_expected_text():
    frames, chunks = EventStreamParser(), ChatChunkParser()
    text = "".join(map(chunks.feed, frames.feed(b"".join(AnswerFrames().of(tag_of(NUMBER), tokens=30)))))
    assert text == expected_text(NUMBER, tokens=30)
    assert (frames.fault, chunks.done, chunks.finish_reason) == (None, True, "stop")


def test_parts_are_cut_inside_events():
    frames, cutter = EventStreamParser(), ResponseCutter(3)
    parts = [part for _ in range(20) for part in frames.feed(framed(sse_chunk(" dose"), cutter=cutter))]
    assert b"".join(parts) == sse_chunk(" dose") * 20
    assert any(not part.endswith(b"\n\n") for part in parts)


def test_a_question_is_known_again_in_a_prompt():
    assert tag_in(b"passages\n\nQuestion: " + question(NUMBER).encode()) == tag_of(NUMBER)


@pytest.mark.parametrize("tokens", [10, 20, 30, 200])
def test_an_answer_has_as_many_tokens_as_asked(tokens: int):
    tag = tag_of(NUMBER)
    texts = [first_piece(tag), *later_pieces(variant_of(tag), tokens - 1)]
    assert (len(texts), "".join(texts)) == (tokens, expected_text(NUMBER, tokens=tokens))
    assert len(AnswerFrames().of(tag, tokens=tokens)) == tokens


def prompt() -> Prompt:
    documents = map(document, range(READ_DOCUMENTS))
    return Prompt(
        prompt_id="answer/4",
        prompt_hash="",
        messages=(),
        documents=tuple(
            PromptDocument(n, one, tuple(unit for passage in one.passages for unit in passage.units))
            for n, one in enumerate(documents, start=1)
        ),
        dropped_documents=0,
        history_turns=0,
        prompt_tokens=0,
        refusal="The documents do not answer this question.",
        partial="The documents do not say",
    )


def test_every_sentence_of_every_answer_is_shown():
    numbers = {variant_of(tag_of(number)): number for number in range(500)}
    assert len(numbers) == VARIANTS
    for number in numbers.values():
        text = expected_text(number)
        answer = AnswerText(prompt=replace(prompt(), given=(question(number),)), language=language("en"))
        released = [*answer.write(text), *answer.end(cut_short=False)]
        assert (answer.failure, answer.text) == (None, text), released[-1:]


def test_questions_and_their_texts_are_distinct():
    assert len({question(number) for number in range(5_000)}) == 5_000
    assert len({expected_text(number) for number in range(300)}) == 300


# --- DynamoDB -------------------------------------------------------------------------------------------
FREE = {"ConditionExpression": "attribute_not_exists(pk)"}


def typed(**attributes: str) -> dict[str, dict[str, str]]:
    return {name: {"S": value} for name, value in attributes.items()}


def put(sort: str, *, pk: str = "log#1", **attributes: str) -> dict[str, Any]:
    return {"TableName": "records", "Item": typed(pk=pk, sk=sort, **attributes)}


def filled() -> Tables:
    tables = Tables()
    requests = [{"PutRequest": {"Item": put(sort)["Item"]}} for sort in ("head", "batch#2", "a", "batch#1")]
    tables.apply("BatchWriteItem", {"RequestItems": {"records": requests}})
    return tables


def test_a_put_where_an_item_is_is_refused():
    tables = filled()
    with pytest.raises(RefusedError, match="ConditionalCheckFailedException"):
        tables.apply("PutItem", put("head", body="new") | FREE)
    tables.apply("PutItem", put("tail", body="new") | FREE)
    tables.apply("PutItem", put("a", body="new"))
    for sort, kept in {"head": False, "tail": True, "a": True}.items():
        found = tables.apply("GetItem", {"TableName": "records", "Key": typed(pk="log#1", sk=sort)})
        assert ("body" in found["Item"]) is kept
    assert tables.apply("GetItem", {"TableName": "records", "Key": typed(pk="log#2", sk="a")}) == {}


def test_a_query_keeps_its_order_and_limit():
    call = {
        "TableName": "records",
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": typed(**{":pk": "log#1"}),
    }
    oldest_first = ["a", "batch#1", "batch#2", "head"]
    cases: dict[tuple[bool, int], list[str]] = {
        (True, 3): oldest_first[:3],
        (False, 2): ["head", "batch#2"],
        (False, 9): oldest_first[::-1],
    }
    for (forward, limit), sorts in cases.items():
        found = filled().apply("Query", call | {"ScanIndexForward": forward, "Limit": limit})
        assert [item["sk"]["S"] for item in found["Items"]] == sorts


def test_a_transaction_writes_all_or_nothing():
    tables = filled()

    def transaction(*sorts: str, token: str) -> dict[str, object]:
        return {"TransactItems": [{"Put": put(sort) | FREE} for sort in sorts], "ClientRequestToken": token}

    with pytest.raises(RefusedError, match="TransactionCanceled") as refused:
        tables.apply("TransactWriteItems", transaction("new", "head", token="1"))
    codes = [reason["Code"] for reason in refused.value.fields["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert tables.count("records", sort="new") == 0
    for _ in range(2):  # a repetition after a lost answer
        tables.apply("TransactWriteItems", transaction("new", "newer", token="2"))
    assert tables.count("records", sort="new") == 1


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("ImportTable", {}),
        ("PutItem", put("x") | {"ConditionExpression": "owner = :me"}),
        ("PutItem", put("x") | {"ReturnValues": "ALL_OLD"}),
        (
            "BatchWriteItem",
            {"RequestItems": {"records": [{"DeleteRequest": {"Key": typed(pk="1", sk="2")}}]}},
        ),
        ("TransactWriteItems", {"ClientRequestToken": "1", "TransactItems": [{"Delete": {}}]}),
        ("UpdateItem", {"UpdateExpression": "SET cancelled = :value"}),
        (
            "Query",
            {"TableName": "t", "KeyConditionExpression": "size(pk) = :pk", "ExpressionAttributeValues": {}},
        ),
        ("Query", {"TableName": "t", "KeyConditionExpression": "pk = :pk", "FilterExpression": "a = :b"}),
    ],
)
def test_what_it_does_not_know_is_an_error(operation: str, call: dict[str, Any]):
    with pytest.raises(UnknownCallError):
        filled().apply(operation, call)
