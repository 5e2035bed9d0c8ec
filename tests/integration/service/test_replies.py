"""Replies to a patient over real HTTP: streamed, joined by a key, checked, kept with what was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.answers import CheckBody, ReplyBody, Sent
from tests.fakes.running_service import RunningService, Scene, events_of, running_service
from tests.integration.service.test_client import calling

CITED = ("The wait is two days [1.1].",)
REPLY = ("You wait two days", ", not 10 weeks.")


async def answered(service: RunningService) -> str:
    service.sagemaker.texts = CITED
    answer_id: str = (await service.answered())["answer_id"]
    service.sagemaker.texts = REPLY
    return answer_id


async def test_a_reply_is_streamed_checked_and_read_again(service: RunningService) -> None:
    answer_id = await answered(service)
    path, headers = f"/v1/answers/{answer_id}/reply", service.headers(accept="text/event-stream")
    body = {"style": "warmer"}
    answered_ = await service.client.post(path, json=body, headers={**headers, "idempotency-key": "k1"})
    events = events_of(answered_.text)
    names = [name for name, _ in events]
    assert names == ["started", "sources", *["token"] * (len(names) - 3), "done"]
    assert [check["values"][0] for check in events[-1][1]["checks"]] == ["10 week"]
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
        checked = await client.check_reply(answer_id, CheckBody(text="You wait two days."))
        assert checked.checks == ()
        sent = Sent(send_id="s1", text="You wait two days.", reply_id=reply.answer_id)
        await client.keep_sent(answer_id, sent)
    async with calling(service, agent="olga", roles=["auditor"]) as auditor:
        drafts = await auditor.read_conversation(answer_id)
        [stored] = (await auditor.read_answer(answer_id)).sent
    [draft] = [each.record for each in drafts.answers]
    assert (draft.answer_id, draft.reply_to, len(draft.checks)) == (reply.answer_id, answer_id, 1)
    assert stored.sent.reply_id == draft.answer_id


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
