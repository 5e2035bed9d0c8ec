"""Unasked suggestions over real HTTP: mostly none, one at most, and no word of a chat is kept."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.answer.scores import shipped_weights
from assistant.answer.section import NEAR_FEATURES, PartQuote
from tests.stage.running_service import RunningService, Scene, running_service

CANARY = "Zylowordia"
ASKED = f"{CANARY} asks how long the wait is"
FLAGS = """[[red_flags]]
name = "chest_pain"
examples = ["my chest hurts", "pain in the chest", "chest pain", "tight chest", "pressure on my chest"]
text = "Possible heart attack. Tell the caller to hang up and dial 911 now."
call = "911"
"""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=FLAGS)) as service:
        await service.know("wait", "The wait is two days. Bring the card.")
        yield service


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every section is certain enough: the vectors of the tests' model say nothing."""
    monkeypatch.setattr(PartQuote, "probability", 0.95)


@pytest.fixture
def uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartQuote, "probability", 0.7)


async def turns(service: RunningService, *said: str, **who: Any) -> httpx.Response:
    whole = [
        {"who": "agent", "text": "Hello, this is Dana."},
        *({"who": "customer", "text": one} for one in said),
    ]
    return await service.client.post("/v1/turns", json={"turns": whole}, headers=service.headers(**who))


async def counts(service: RunningService, **who: Any) -> httpx.Response:
    return await service.client.get(
        "/v1/turns/counts", headers=service.headers(**{"agent": "rita", "roles": ["reviewer"], **who})
    )


def files_with(folder: Path, word: str) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


@pytest.mark.usefixtures("certain")
async def test_a_certain_section_is_suggested_without_a_model(service: RunningService) -> None:
    read = await turns(service, "How long is the wait?")
    assert (read.status_code, read.json()["red_flags"]) == (200, [])
    suggestion = read.json()["suggestion"]
    assert (suggestion["document_id"], suggestion["title"]) == ("wait", "Title of wait")
    assert "The wait is two days." in suggestion["lines"]
    assert service.sagemaker.generations == []


@pytest.mark.usefixtures("uncertain")
async def test_below_the_threshold_there_is_nothing(service: RunningService) -> None:
    assert (await turns(service, "How long is the wait?")).json()["suggestion"] is None
    assert (await counts(service)).json()["steps"] == []


@pytest.mark.usefixtures("certain")
async def test_an_emergency_is_raised_and_nothing_is_suggested_beside_it(service: RunningService) -> None:
    read = (await turns(service, "How long is the wait?", "chest pain")).json()
    assert [flag["name"] for flag in read["red_flags"]] == ["chest_pain"]
    assert read["suggestion"] is None


@pytest.mark.usefixtures("certain")
async def test_no_word_of_a_turn_is_in_a_store_a_file_or_a_log(
    service: RunningService,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await turns(service, ASKED)).json()["suggestion"] is not None
    assert (await turns(service, "Thanks!", CANARY)).status_code == 200
    service.sagemaker.embedding_fault = "error"
    assert (await turns(service, f"{ASKED} now")).status_code in (200, 503)
    service.sagemaker.embedding_fault = "none"
    body = {"turns": [{"who": CANARY, "text": CANARY}]}
    refused = await service.client.post("/v1/turns", json=body, headers=service.headers())
    assert (refused.status_code, CANARY in refused.text) == (422, False)
    await service.idle()
    out, err = capfd.readouterr()
    assert CANARY not in out + err + caplog.text
    assert files_with(tmp_path, CANARY) == []
    assert CANARY not in (await counts(service)).text
    assert CANARY not in (await service.operated("/metrics")).text
    await service.answered(question=ASKED)  # a question is kept: this search finds words
    assert files_with(tmp_path, CANARY) != []


@pytest.mark.usefixtures("certain")
async def test_a_mark_of_a_suggestion_that_was_not_shown_so_is_not_counted(service: RunningService) -> None:
    shown = [(await turns(service, "How long is the wait?")).json()["suggestion"] for _ in range(2)]
    (one, step), other = (shown[0]["suggestion_id"], shown[0]["step"]), shown[1]["suggestion_id"]
    bobs = (await turns(service, "How long is the wait?", agent="bob")).json()["suggestion"]["suggestion_id"]
    answers = [(await service.answered(agent=agent))["answer_id"] for agent in ("ann", "ann", "bob")]
    await service.idle()

    async def act(shown_id: str, of: int = 0, kind: str = "inserted", at: int = step, **who: Any) -> int:
        body = {"answer_id": answers[of], "kind": kind, "step": at}
        path = f"/v1/turns/{shown_id}/acts"
        return (await service.client.post(path, json=body, headers=service.headers(**who))).status_code

    async def counted() -> dict[str, int]:
        [of_step] = (await counts(service)).json()["steps"]
        return {kind: of_step[kind] for kind in ("shown", "opened", "inserted")}

    made_up = (f"2020-01-01{one[10:]}", one[:-1], f"{one}0", one.swapcase(), one[:-8] + bobs[-8:], one[:43])
    for shown_id in (*made_up, bobs[:-8] + one[-8:], "-"):
        assert await act(shown_id) in (404, 422), shown_id
    for at in range(20):
        assert await act(one, at=at) == 404 or at == step
    assert await act(one, of=2, agent="bob") == await act(bobs) == await act(one, of=2) == 404
    assert await act(one, kind="shown") == 422
    assert await act(one, tenant="pharmacy") in (404, 503)
    assert await act(one, roles=["manager"]) == 403
    assert await counted() == {"shown": 3, "opened": 0, "inserted": 1}
    repeated = [await act(one), await act(one, of=1), await act(one), await act(other, kind="opened")]
    assert repeated == [200, 409, 200, 200]
    assert await counted() == {"shown": 3, "opened": 1, "inserted": 1}


@pytest.mark.usefixtures("certain")
async def test_a_document_is_suggested_under_the_agents_labels_alone(service: RunningService) -> None:
    await service.withdraw("wait")
    await service.know("board", "The wait of the board is nine days.", labels=("board",))
    own = (await turns(service, "How long is the wait?", labels=["board"])).json()["suggestion"]
    assert own["document_id"] == "board"
    assert (await turns(service, "How long is the wait?")).json()["suggestion"] is None


async def test_turns_end_with_the_customer(service: RunningService) -> None:
    body = {"turns": [{"who": "customer", "text": "Hi"}, {"who": "agent", "text": "Hello"}]}
    refused = await service.client.post("/v1/turns", json=body, headers=service.headers())
    assert (refused.status_code, "the last turn is the customer's" in refused.text) == (422, True)
    assert (await turns(service, "Hi")).status_code == 200
    assert (await turns(service, "Hi", roles=["reviewer"])).status_code == 403


def test_the_shipped_weights_are_of_the_figures_that_are_fitted() -> None:
    assert tuple(shipped_weights("near").features) == NEAR_FEATURES
