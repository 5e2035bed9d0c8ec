"""What stands before a reply is sent, over real HTTP: findings, reasons, a second person, emergencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stage.running_service import RunningService, Scene, running_service
from tests.stage.sagemaker_runtime import SageMakerSocket

LINES = (
    "Membership starts on 3 March. The deposit is 40 dollars, and members get it back. "
    "Dr. Keller signs the form. Do not stop the tablets on your own."
)
RIGHT = "The deposit is 40 dollars, and you get it back. Membership starts on March 3."
PLANTED = {
    "number": RIGHT.replace("40", "45"),
    "date": RIGHT.replace("March 3", "March 9"),
    "name": f"{RIGHT} Dr. Brandt signs the form.",
}
EMERGENCY = "Possible heart attack. Hang up and dial 911 now, and do not drive."
FLAGS = """[[red_flags]]
name = "chest_pain"
examples = ["my chest hurts", "pain in the chest", "chest pain", "tight chest", "pressure on my chest"]
text = "Possible heart attack. Tell the caller to hang up and dial 911 now, and not to drive."
call = "911; then the pharmacist, ext. 4200"
"""


async def opened(folder: Path, guard: str) -> AsyncIterator[RunningService]:
    scene = Scene(writes=False, more_of_tenants=f'[review]\nguard = "{guard}"\n{FLAGS}')
    async with running_service(folder, scene) as service:
        await service.know("deposit", LINES)
        yield service


@pytest.fixture(params=["seen"])
async def service(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    async for service in opened(tmp_path, request.param):
        yield service


def guarded(guard: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", [guard], indirect=True)


async def answered(service: RunningService) -> str:
    return (await service.answered(question="What about the deposit?"))["answer_id"]


async def on_record(service: RunningService, answer_id: str) -> list[dict[str, Any]]:
    read = await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())
    return [one["sent"] for one in read.json()["sent"]]


def ids(refused: httpx.Response) -> list[str]:
    assert (refused.status_code, refused.json()["code"]) == (409, "reply_findings")
    return [one["id"] for one in refused.json()["findings"]]


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_change_is_sent_only_once_it_was_seen(service: RunningService, planted: str) -> None:
    answer_id, text = await answered(service), PLANTED[planted]
    assert ids(await service.send(answer_id, text, more={"confirmed": ["another"]}))
    found = ids(await service.send(answer_id, text))
    assert await on_record(service, answer_id) == []
    # what was seen of one text confirms no other one
    assert ids(await service.send(answer_id, f"{text} The fee is 77 dollars.", more={"confirmed": found}))
    assert (await service.send(answer_id, text, more={"confirmed": found})).status_code == 200
    [kept] = await on_record(service, answer_id)
    assert (kept["text"], kept["confirmed"]) == (text, found)


@guarded("reason")
@pytest.mark.parametrize("text", [RIGHT, EMERGENCY, f"{RIGHT} Call 911 now.", "Possible heart attack."])
async def test_right_replies_and_emergency_lines_go_straight(service: RunningService, text: str) -> None:
    answer_id = await answered(service)
    sent = await service.send(answer_id, text)
    assert (sent.status_code, sent.json()["sent"]["text"]) == (200, text)


@guarded("reason")
async def test_a_reason_is_asked_for_and_kept(service: RunningService) -> None:
    answer_id, text = await answered(service), PLANTED["number"]
    seen = {"confirmed": ids(await service.send(answer_id, text))}
    assert ids(await service.send(answer_id, text, more={**seen, "reason": " "})) == seen["confirmed"]
    assert await on_record(service, answer_id) == []
    sent = await service.send(answer_id, text, more={**seen, "reason": "The fee rose today."})
    assert sent.status_code == 200
    [kept] = await on_record(service, answer_id)
    assert kept["reason"] == "The fee rose today."


@guarded("second_person")
async def test_a_second_person_confirms_the_text_and_no_other(service: RunningService) -> None:
    answer_id, text = await answered(service), PLANTED["number"]

    async def confirm(agent: str, asked: str = text, **more: str) -> httpx.Response:
        path, body = f"/v1/answers/{answer_id}/sent/confirm", {"text": asked, **more}
        return await service.client.post(path, json=body, headers=service.headers(agent))

    assert (await confirm("bob")).status_code == 404  # nobody asked
    seen = {"confirmed": ids(await service.send(answer_id, text))}
    assert ids(await service.send(answer_id, text, more=seen))
    assert "You asked" in (await service.send(answer_id, text, more=seen)).json()["detail"]
    assert ids(await confirm("ann"))
    assert ids(await confirm("bob"))
    assert (await confirm("bob", f"{text} Bye.")).status_code == 404
    digest = (await confirm("bob")).json()["detail"].partition("contents ")[2][:64]
    assert (await confirm("bob", contents="0" * 64)).json()["code"] == "contents_changed"
    assert await on_record(service, answer_id) == []
    assert (await confirm("bob", contents=digest)).status_code == 204
    assert (await service.send(answer_id, text, agent="bob", more=seen)).status_code == 404
    assert (await service.send(answer_id, text, more=seen)).status_code == 200
    assert [one["text"] for one in await on_record(service, answer_id)] == [text]


async def test_without_the_model_the_text_is_sent_and_the_response_says_so(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(first_token_timeout_s=0.5, checks=True)) as service:
        await service.know("wait", "The wait is two days.")
        service.sagemaker.texts = ("The wait is two days [1.1].",)
        answer_id = (await service.answered())["answer_id"]
        service.sagemaker.of_check = SageMakerSocket(generation_fault="error")
        sent = await service.send(answer_id, "You wait two days.")
        assert (sent.status_code, sent.json()["degraded"]) == (200, ["reply_check"])
        assert ids(await service.send(answer_id, "You wait nine days.", more={"send_id": "s2"}))
        service.sagemaker.of_check = None


async def test_a_repetition_of_a_recorded_send_is_not_asked_again(service: RunningService) -> None:
    answer_id = await answered(service)
    assert (await service.send(answer_id, RIGHT)).status_code == 200
    await service.withdraw("deposit")
    assert (await service.send(answer_id, RIGHT)).status_code == 200
    assert len(await on_record(service, answer_id)) == 1
