"""What is left of a withdrawn document: where an answer showed it, and on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from assistant.service import __main__ as service_main
from assistant.text.caches import forget_texts, remembered
from tests.integration.service.callers import (
    LEAFLET,
    MARKER,
    QUESTION,
    SENT,
    STREAM,
    asked,
    come_back,
    read,
)
from tests.stage.running_service import (
    RunningService,
    Scene,
    events_of,
    eventually,
    running_service,
    service_on,
)


@pytest.fixture(params=[False, True], ids=["quoted", "written"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path / "service", Scene(writes=request.param)) as service:
        service.sagemaker.texts = (f"The {MARKER} wait is four days, and it ends at noon.",)
        await service.know("leaflet", LEAFLET, media_type="text/markdown")
        yield service


@pytest.fixture
async def other(service: RunningService) -> AsyncIterator[RunningService]:
    """A second task of the service on the same stores."""
    assert service.settings is not None
    async with service_on(service.settings, Scene(), service.sagemaker) as made:
        yield made


def files_with(folder: Path, words: str) -> set[str]:
    """Return the files under the folder whose bytes hold the words, in any of the usual encodings."""
    wanted = [words.encode(), words.encode("utf-16-le"), words.upper().encode(), words.capitalize().encode()]
    return {
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    }


def shown(events: list[Any]) -> tuple[str, list[Any]]:
    """Return the text and the sentences of an answer's events."""
    texts = [data["text"] for name, data in events if name == "token"]
    return "".join(texts), [data for name, data in events if name == "sentence"]


async def test_an_answer_comes_again_to_the_letter(service: RunningService, other: RunningService) -> None:
    answer_id, first = await asked(service)
    assert MARKER.encode() in first
    for task in (service, other):
        assert shown(await come_back(task, answer_id)) == shown(events_of(first.decode()))


async def test_a_replay_of_a_withdrawn_source_ends_with_withdrawn(
    service: RunningService, other: RunningService
) -> None:
    answer_id, first = await asked(service)
    last = len(events_of(first.decode()))
    await service.withdraw("leaflet")
    for task in (service, other):
        for after in (0, 2, last - 1):
            [(name, problem)] = await come_back(task, answer_id, after=after)
            assert (name, problem["code"], problem["retryable"]) == ("error", "withdrawn", False)
    headers = service.headers(accept=STREAM) | {"idempotency-key": "key-1"}
    body = {"question": QUESTION, "resume_window_s": 15}
    repeated = await service.client.post("/v1/answers", json=body, headers=headers)
    assert (repeated.status_code, repeated.json()["code"]) == (410, "withdrawn")


async def test_a_replay_while_the_answer_is_written_ends_with_withdrawn_too(tmp_path: Path) -> None:
    async with running_service(tmp_path / "service", Scene(writes=True)) as service:
        await service.know("leaflet", LEAFLET, media_type="text/markdown")
        service.sagemaker.texts = ("The wait is two days. ", "It ends at noon.")
        go_on = service.sagemaker.hold_after(1)
        headers = service.headers(accept=STREAM)
        body = {"question": QUESTION, "resume_window_s": 15}
        text = ""
        async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
            async for part in response.aiter_text():
                text += part
                if "event: sources" in text and text.endswith("\n\n"):
                    break
        await service.withdraw("leaflet")
        answer_id = events_of(text)[0][1]["answer_id"]
        [(name, problem)] = await come_back(service, answer_id)
        assert (name, problem["code"]) == ("error", "withdrawn")
        go_on.set()


async def test_a_record_shows_a_notice_in_place_of_withdrawn_text(service: RunningService) -> None:
    answer_id, _ = await asked(service)
    before = await read(service, answer_id)
    assert MARKER in before["record"]["text"]
    assert before["record"]["excerpts"] == []
    assert [source["withdrawn"] for source in before["sources"]] == [False] * len(before["sources"])
    await service.withdraw("leaflet")
    for who in ({}, {"agent": "ada", "roles": ["auditor"]}):
        after = await read(service, answer_id, **who)
        assert MARKER not in str(after)
        assert "[withdrawn]" in after["record"]["text"]
        assert len(after["record"]["text"]) == len(before["record"]["text"])
        assert after["record"]["sentences"] == before["record"]["sentences"]
        assert {one["document_id"] for one in after["sources"] if one["withdrawn"]} == {"leaflet"}


async def test_a_new_label_closes_old_answers_to_those_who_do_not_have_it(service: RunningService) -> None:
    answer_id, _ = await asked(service)
    await service.know("leaflet", LEAFLET, media_type="text/markdown", labels=("hr",))
    assert MARKER not in str(await read(service, answer_id))
    [(name, problem)] = await come_back(service, answer_id)
    assert (name, problem["code"]) == ("error", "withdrawn")
    assert MARKER in (await read(service, answer_id, labels=["hr"]))["record"]["text"]


async def test_an_auditor_reads_what_the_agent_could_read(service: RunningService) -> None:
    await service.know("leaflet", LEAFLET, media_type="text/markdown", labels=("hr",))
    answer_id, _ = await asked(service, labels=["hr"])
    audited = await read(service, answer_id, agent="ada", roles=["auditor"])
    assert MARKER in audited["record"]["text"]


async def test_a_replaced_content_is_still_shown_as_the_agent_saw_it(service: RunningService) -> None:
    answer_id, first = await asked(service)
    before = await read(service, answer_id)
    await service.know("leaflet", LEAFLET.replace("four", "nine"), media_type="text/markdown")
    assert (await read(service, answer_id))["record"] == before["record"]
    assert shown(await come_back(service, answer_id)) == shown(events_of(first.decode()))


async def test_texts_are_forgotten_in_memory_while_the_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_main, "FORGET_EVERY_S", 0.2)
    async with running_service(tmp_path / "service", Scene(writes=True)) as service:
        service.sagemaker.texts = (f"The {MARKER} wait is four days, and it ends at noon.",)
        await service.know("leaflet", LEAFLET, media_type="text/markdown")
        forget_texts()
        was_remembered = asyncio.create_task(eventually(lambda: remembered() > 0))
        await service.answered(question=QUESTION)
        await was_remembered
        await eventually(lambda: remembered() == 0)


async def test_nothing_of_a_withdrawn_document_is_left_on_disk_but_what_was_sent(
    service: RunningService,
) -> None:
    """Every byte of the state folder, write-ahead logs and freed pages among them."""
    answer_id, _ = await asked(service)
    await service.answered(question=QUESTION)
    chat = {"model": "default", "messages": [{"role": "user", "content": QUESTION}]}
    answered = await service.call("POST", "/v1/chat/completions", json=chat)
    assert MARKER in answered.text
    await service.send_anyway(answer_id, SENT)
    await service.idle()
    assert any(name.endswith(".parsed.json") for name in files_with(service.state_dir, MARKER))
    await service.withdraw("leaflet")
    assert files_with(service.state_dir, MARKER[:-1]) == set()  # its stem, as indices keep it
    assert {name.partition("-")[0] for name in files_with(service.state_dir, SENT)} == {"records.sqlite"}


async def test_a_receipt_needs_the_label_that_the_document_had(service: RunningService) -> None:
    await service.know("pay", "Pay is on day one.", labels=("hr",))
    path = "/v1/documents/pay"
    owner = service.headers("olga", roles=["knowledge_owner"], labels=["hr"])
    assert (await service.client.delete(path, headers=owner)).status_code == 202
    outsider = service.headers("olga", roles=["knowledge_owner"])
    for headers, status in ((owner, 200), (outsider, 404), (service.headers(labels=["hr"]), 403)):
        receipt = await service.client.get(f"{path}/receipt", headers=headers)
        assert receipt.status_code == status, receipt.text
