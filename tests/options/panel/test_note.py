"""The note of a conversation, over real HTTP: its lines, sources, and whose it is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.stage.running_service import NOTHING_IS_NEAR, RunningService, Scene, running_service

LINES = "The wait is two days. Bring the card."


@pytest.fixture(params=[False, True], ids=["quoted", "written"])
async def service(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(writes=request.param)) as service:
        service.sagemaker.texts = ("The wait is two days [1.1].",)
        await service.know("wait", LINES)
        yield service


async def note_of(service: RunningService, conversation: str, **who: Any) -> httpx.Response:
    path = f"/v1/conversations/{conversation}/note"
    return await service.client.get(path, headers=service.headers(**who))


async def test_a_note_has_question_line_source_and_what_was_sent(service: RunningService) -> None:
    answer = await service.answered()
    assert (await service.send(answer["answer_id"], "You wait two days.")).is_success
    conversation = answer["conversation_id"]
    [entry] = (await note_of(service, conversation)).json()["entries"]
    assert (entry["question"], entry["open"]) == ("How long is the wait?", [])
    [line] = [line for line in entry["lines"] if line["text"].startswith("The wait")]
    assert (line["document_id"], line["title"], line["withdrawn"]) == ("wait", "Title of wait", False)
    assert LINES[slice(*line["span"])] == line["text"] == "The wait is two days."
    assert [one["text"] for one in entry["sent"]] == ["You wait two days."]
    path = f"/v1/conversations/{conversation}/note?zone=Asia/Tokyo"
    plain = (await service.client.get(path, headers=service.headers(accept="text/plain"))).text
    at = datetime.fromisoformat(entry["at"]).astimezone(ZoneInfo("Asia/Tokyo"))
    times, question, *lines = plain.splitlines()[0:1] + plain.splitlines()[2:]
    assert times.startswith(f"{at.day} {at:%b %Y, %H:%M} to ")
    assert times.endswith(" JST")
    assert question == f"Asked {at:%H:%M}: How long is the wait?"
    assert lines[0] == "  The wait is two days."
    assert lines[-2] == "    (Title of wait)"
    assert re.fullmatch(r"  Sent \d\d:\d\d: You wait two days\.", lines[-1])


async def test_a_withdrawn_document_has_no_words_in_a_note(service: RunningService) -> None:
    conversation = (await service.answered())["conversation_id"]
    assert "two days" in (await note_of(service, conversation)).text
    await service.withdraw("wait")
    for accept in ("application/json", "text/plain"):
        said = (await note_of(service, conversation, accept=accept)).text
        assert "two days" not in said
        assert "withdrawn" in said


async def test_a_conversation_is_its_agents_alone(service: RunningService) -> None:
    conversation = (await service.answered())["conversation_id"]
    assert (await note_of(service, conversation)).status_code == 200
    for other in ({"agent": "bob"}, {"tenant": "pharmacy"}, {"agent": "olga", "roles": ["knowledge_owner"]}):
        assert (await note_of(service, conversation, **other)).status_code in (403, 404)
    assert (await note_of(service, "unknown")).status_code == 404


async def test_what_stayed_open_is_said(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(writes=False, gate=NOTHING_IS_NEAR)) as service:
        await service.know("wait", LINES)
        answer = await service.answered(question="Do you ship to Norway?")
        [entry] = (await note_of(service, answer["conversation_id"])).json()["entries"]
        assert entry["open"] == [["Do you ship to Norway?", "no_document"]]
        plain = (await note_of(service, answer["conversation_id"], accept="text/plain")).text
        assert "Do you ship to Norway? (no document answers)" in plain.partition("\nOpen\n")[2]
