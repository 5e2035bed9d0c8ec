"""Replies to a patient over real HTTP: streamed, joined by a key, checked, kept with what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from assistant.client import AssistantClient
from assistant.domain.answers import CheckBody, ReplyBody, Sent, StoredSent
from assistant.service import wire
from tests.integration.service.callers import calling
from tests.stage.answering import verdicts
from tests.stage.running_service import RunningService, Scene, events_of, running_service, service_of_two
from tests.stage.sagemaker_runtime import SageMakerSocket

CITED = ("The wait is two days [1.1].",)
REPLY = ("You wait two days", ", not 10 weeks.")


RIGHT = "You wait two days."
HELD = verdicts((1, "held", 1, ""))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with service_of_two(tmp_path, Scene(checks=True)) as service:
        yield service


async def answered(service: RunningService, *verdict: str, **fault: Any) -> str:
    service.sagemaker.texts = CITED
    answer_id: str = (await service.answered())["answer_id"]
    service.sagemaker.texts = REPLY
    service.sagemaker.of_check = SageMakerSocket(texts=verdict or (HELD,), **fault)
    return answer_id


async def checked_of(
    client: AssistantClient, answer_id: str, text: str, *, by_model: bool = True
) -> wire.ReplyChecks:
    body = CheckBody(text=text, by_model=by_model)
    return await client.post(wire.ReplyChecks, f"/v1/answers/{answer_id}/reply/check", body)


async def conversation_of(client: AssistantClient, conversation_id: str) -> wire.Conversation:
    return await client.get(wire.Conversation, "/v1/answers", conversation_id=conversation_id)


async def test_a_reply_is_streamed_checked_and_read_again(service: RunningService) -> None:
    answer_id = await answered(service)
    path, headers = f"/v1/answers/{answer_id}/reply", service.headers(accept="text/event-stream")
    body = {"style": "warmer"}
    answered_ = await service.client.post(path, json=body, headers={**headers, "idempotency-key": "k1"})
    events = events_of(answered_.text)
    names = [name for name, _ in events]
    assert names == ["started", "sources", *["token"] * (len(names) - 4), "checks", "done"]
    for _, ending in events[-2:]:
        assert [check["values"][0] for check in ending["checks"]] == ["10 week"]
    assert events[-1][1]["degraded"] == []
    assert events[-1][1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 6}
    reply_id = events[0][1]["answer_id"]
    again = await service.client.post(path, json=body, headers={**headers, "idempotency-key": "k1"})
    assert events_of(again.text)[0][1]["answer_id"] == reply_id
    other = await service.client.post(path, json={}, headers={**headers, "idempotency-key": "k1"})
    assert other.status_code == 409


async def test_draft_edit_and_what_was_sent_are_linked(service: RunningService) -> None:
    answer_id = await answered(service)
    async with calling(service) as client:
        reply = await client.write_reply(answer_id, ReplyBody())
        assert reply.text == "You wait two days, not 10 weeks."
        checked = await checked_of(client, answer_id, "You wait two days.")
        assert checked.checks == ()
        sent = Sent(send_id="s1", text="You wait two days.", reply_id=reply.answer_id)
        await client.post(StoredSent, f"/v1/answers/{answer_id}/sent", sent)
    async with calling(service, agent="olga", roles=["auditor"]) as auditor:
        drafts = await conversation_of(auditor, answer_id)
        [stored] = (await auditor.read_answer(answer_id)).sent
    [draft] = [each.record for each in drafts.answers]
    assert (draft.answer_id, draft.reply_to, len(draft.checks)) == (reply.answer_id, answer_id, 1)
    assert stored.sent.reply_id == draft.answer_id


@pytest.mark.parametrize(
    ("verdict", "fault", "found", "degraded"),
    [
        (HELD, {}, [], ()),
        (verdicts((1, "opposite", 1, "two")), {}, ["contradicts"], ()),
        (verdicts((1, "not_held", None, "two days")), {}, ["not_held"], ()),
        ("I see no fault.", {}, [], ("reply_check",)),
        (HELD, {"stall_after": 1}, [], ("reply_check",)),
        (HELD, {"garbage_after": 0}, [], ("reply_check",)),
    ],
    ids=["held", "opposite", "not-held", "unreadable", "late", "garbage"],
)
async def test_an_edited_text_is_read_by_the_model(
    tmp_path: Path, verdict: str, fault: dict[str, Any], found: list[str], degraded: tuple[str, ...]
) -> None:
    scene = Scene(first_token_timeout_s=0.5 if fault else 10.0, checks=True)
    async with running_service(tmp_path, scene) as service, calling(service) as client:
        await service.know("wait", "The wait is two days.")
        answer_id = await answered(service, verdict, **fault)
        checked = await checked_of(client, answer_id, RIGHT)
        assert ([one.kind for one in checked.checks], checked.degraded) == (found, degraded)
        asked = len(service.sagemaker.generations)
        by_code = await checked_of(client, answer_id, RIGHT, by_model=False)
        assert (by_code.checks, by_code.degraded) == ((), ())
        assert len(service.sagemaker.generations) == asked


async def test_the_record_of_a_reply_keeps_no_line(service: RunningService) -> None:
    answer_id = await answered(service, verdicts((1, "opposite", 1, "wait")))
    service.sagemaker.texts = (RIGHT,)
    async with calling(service) as client:
        told = (await client.write_reply(answer_id)).checks
        [stored] = (await conversation_of(client, answer_id)).answers
    assert [one.line for one in told] == ["Title of wait: The wait is two days."]
    assert [(one.kind, one.values, one.line) for one in stored.record.checks] == [
        ("contradicts", ("wait",), None)
    ]


async def test_another_agent_finds_no_answer(service: RunningService) -> None:
    answer_id = await answered(service)
    for path, body in (("reply", {}), ("reply/check", {"text": "Hi."})):
        url = f"/v1/answers/{answer_id}/{path}"
        refused = await service.client.post(url, json=body, headers=service.headers("ben"))
        assert refused.status_code == 404


async def test_a_withdrawn_document_is_a_clear_error(service: RunningService) -> None:
    answer_id = await answered(service)
    await service.withdraw("wait")
    for path, body in (("reply", {}), ("reply/check", {"text": "Hi."})):
        url = f"/v1/answers/{answer_id}/{path}"
        refused = await service.client.post(url, json=body, headers=service.headers())
        assert (refused.status_code, refused.json()["code"]) == (410, "withdrawn")


@pytest.mark.parametrize("path", ["reply", "reply/check"])
async def test_without_a_model_a_text_is_checked_and_none_written(tmp_path: Path, path: str) -> None:
    async with running_service(tmp_path, Scene(writes=False)) as service:
        await service.know("wait", "The wait is two days.")
        answer_id = (await service.answered())["answer_id"]
        body = {"text": "Three days."} if path.endswith("check") else {}
        response = await service.client.post(
            f"/v1/answers/{answer_id}/{path}", json=body, headers=service.headers()
        )
        assert response.status_code == (200 if path.endswith("check") else 409)
        if response.status_code == 200:
            assert response.json()["checks"][0]["kind"] == "not_held"
