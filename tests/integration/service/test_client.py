"""The client and the running service: its methods, by real HTTP, into their types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from assistant.answer.events import Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.client import AssistantClient, Question
from assistant.domain.answers import FinishReason, Sent, StoredSent, Verdict, VerdictLabel
from assistant.domain.documents import Document, DocumentState
from assistant.service import wire
from tests.fakes.running_service import RunningService
from tests.fakes.socket_server import socket_server
from tests.integration.service.callers import calling

KEPT = Question(question="How long is the wait?")
DOCUMENT = Document(document_id="new", title="New", content="A new text.", media_type="text/plain")


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[AssistantClient]:
    async with calling(service) as client:
        yield client


async def test_a_stream_s_events_are_all_of_their_types(client: AssistantClient) -> None:
    async with aclosing(client.stream(KEPT)) as events:
        found = [event async for event in events]
    assert [type(event) for event in found[:2]] == [Started, Sources]
    assert {type(event) for event in found[2:-1]} == {Token, SentenceEnded}
    assert isinstance(found[-1], Done)


async def test_an_answer_goes_its_whole_way(client: AssistantClient) -> None:
    whole = await client.ask(KEPT)
    assert (whole.text, whole.finish_reason) == ("Wait two days.", FinishReason.STOP)
    verdict = await client.give_verdict(whole.answer_id, Verdict(verdict_id="v1", label=VerdictLabel.GOOD))
    path = f"/v1/answers/{whole.answer_id}/sent"
    sent = await client.post(StoredSent, path, Sent(send_id="s1", text="Two days."))
    stored = await client.read_answer(whole.answer_id)
    assert (stored.verdicts, stored.sent) == ((verdict,), (sent,))
    asked = {"conversation_id": whole.conversation_id}
    conversation = await client.get(wire.Conversation, "/v1/answers", **asked)
    assert [answer.record.answer_id for answer in conversation.answers] == [whole.answer_id]
    await client.cancel_answer(whole.answer_id)


async def test_a_cut_connection_costs_no_text(service: RunningService) -> None:
    """A relay between both cuts two connections after some bytes; the client's text is whole all the same."""
    sentences = [f"Shelf {letter * 3} holds the box {letter * 30}. " for letter in "bcdfghjklmnpqrstvwxz"]
    await service.know("wait", "".join(sentences))
    service.sagemaker.texts = sentences
    go_on = service.sagemaker.hold_after(len(sentences) // 2)  # a second connection meets the answer at work

    connections: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        if len(connections) > 1:
            go_on.set()
        host, port = service.url.removeprefix("http://").split(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            up_writer.write(head + body)
            budget = 3_000 if len(connections) < 3 else 1_000_000
            while budget > 0 and (part := await up_reader.read(min(512, budget))):
                budget -= len(part)
                writer.write(part)
                await writer.drain()
        finally:
            up_writer.close()

    async with (
        socket_server(relay) as url,
        calling(service, url) as client,
        aclosing(client.stream(KEPT)) as events,
    ):
        found = [event async for event in events]
    assert len(connections) > 2
    assert isinstance(found[-1], Done)
    text = "".join(event.text for event in found if isinstance(event, Token))
    assert text.strip() == "".join(sentences).strip()
    assert len(service.sagemaker.generations) == 1


async def test_a_cancelled_answer_ends_with_its_problem(
    service: RunningService, client: AssistantClient
) -> None:
    service.sagemaker.stall_after = 1
    async with aclosing(client.stream(KEPT)) as events:
        started = await anext(events)
        assert isinstance(started, Started)
        await client.cancel_answer(started.answer_id)
        rest = [event async for event in events]
    assert isinstance(rest[-1], Problem)
    assert rest[-1].code == "cancelled"


async def test_documents_come_and_go(service: RunningService) -> None:
    async with calling(service, roles=["knowledge_owner"]) as owner:
        status = await owner.bring_document(DOCUMENT)
        assert status.state is DocumentState.RECEIVED
        assert await owner.document_status("new") == status
        page = await owner.list_documents(state=[DocumentState.LIVE], limit=1)
        assert [document.document_id for document in page.documents] == ["wait"]
        assert (await owner.withdraw_document("new")).state is DocumentState.WITHDRAWN


async def test_an_owner_s_sources_and_what_is_read_again(service: RunningService) -> None:
    async with calling(service, roles=["knowledge_owner"]) as owner:
        (source,) = (await owner.list_sources()).sources
        assert source.access == "everyone"
        assert (await owner.read_document_again("wait")).upload_id is None
        assert (await owner.upload_results(["0" * 32])).uploads == ()
        withheld = await owner.withhold_document("wait", reason="It is wrong.")
        assert withheld.state is DocumentState.WITHHELD
