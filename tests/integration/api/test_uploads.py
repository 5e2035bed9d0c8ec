"""Files that are uploaded in parts: they resume, are read as their owner's, and say what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.documents import DocumentState
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.uploads import MOST_OPEN, PART_BYTES, ReceiveUpload, ReceivingLoop
from assistant.wiring.stores import EmbeddedTenant
from tests.fakes.running_service import RunningService, Scene, running_service
from tests.fakes.sagemaker_socket import DIMENSIONS
from tests.integration.api.test_knowledge_sources import SOURCES, owner

_BYTES = {"content-type": "application/offset+octet-stream"}
PAGE = b"# Refunds\n\nA refund takes three days.\n"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=SOURCES)) as running:
        await running.know("wait", "The wait is two days.")
        yield running


async def begin(
    service: RunningService, path: str, size_bytes: int, who: dict[str, str], **params: str
) -> Any:
    headers = who | {"upload-length": str(size_bytes), "tus-resumable": "1.0.0"}
    return await service.client.post("/v1/uploads", params={"path": path, **params}, headers=headers)


async def upload(
    service: RunningService, path: str, content: bytes, who: dict[str, str], **params: str
) -> dict[str, Any]:
    """Upload a file whole, have the worker read it, and return its result."""
    begun = await begin(service, path, len(content), who, **params)
    assert begun.status_code == 201, begun.text
    place = begun.headers["location"]
    sent = await service.client.patch(place, content=content, headers=who | _BYTES | {"upload-offset": "0"})
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, str(len(content)))
    await read(service)
    found = await service.client.get(
        "/v1/uploads", params={"upload_id": begun.json()["upload_id"]}, headers=who
    )
    return found.json()["uploads"][0]["result"]


async def read(service: RunningService) -> None:
    """Do what the worker does with an upload that is complete."""
    served = service.tenants["clinic"]
    stores = stores_of(service)
    add = AddDocuments(stores.knowledge, clock=served.answering.clock, accesses=stores.records)
    receive = ReceiveUpload(stores.uploads, sources=served.sources, add=add)
    await ReceivingLoop(receive, stores.received_uploads).turn()
    await stores.close()


def stores_of(service: RunningService) -> EmbeddedTenant:
    return EmbeddedTenant(
        service.state_dir / "tenants/clinic", embedding_model="tiny-embedding", dimensions=DIMENSIONS
    )


async def status(service: RunningService, document_id: str, who: dict[str, str]) -> tuple[int, Any]:
    response = await service.client.get(f"/v1/documents/{document_id}/status", headers=who)
    return response.status_code, response.json()


async def test_a_file_becomes_a_document_by_its_path(service: RunningService) -> None:
    who = owner(service, "wim", "hr")
    result = await upload(service, "pay/refunds.md", PAGE, who, knowledge_source="wiki")
    assert (result["added"], result["document_ids"]) == (1, ["wiki:pay-refunds"])
    code, found = await status(service, "wiki:pay-refunds", who)
    assert (code, found["title"], found["labels"]) == (200, "Refunds", ["hr"])


async def test_files_that_wait_to_be_read_keep_their_source_loading(service: RunningService) -> None:
    who = owner(service, "wim", "hr")

    async def loading() -> list[tuple[int, int]]:
        page = (await service.client.get("/v1/documents", headers=who)).json()
        return [(one["live"], one["expected"]) for one in page["loading"] if one["source"] == "wiki"]

    for path in ("a.md", "b.md"):
        begun = await begin(service, path, len(PAGE), who, knowledge_source="wiki")
        headers = who | _BYTES | {"upload-offset": "0"}
        await service.client.patch(begun.headers["location"], content=PAGE, headers=headers)
    assert await loading() == [(0, 2)]
    assert (await service.answered())["loading"][0]["source"] == "wiki"
    stores = stores_of(service)
    for after, expected in (("wiki:", [(1, 2)]), ("wiki:a", [])):
        await read(service)
        (status,) = await stores.states.list(after=after, limit=1)
        assert status.first_load
        await stores.states.put_many([status.model_copy(update={"state": DocumentState.LIVE})])
        assert await loading() == expected
    await stores.close()


async def test_a_cut_upload_goes_on_where_it_stopped(service: RunningService) -> None:
    who = owner(service)
    lines = b'{"id": "n", "title": "T", "text": "' + b"x" * 1000 + b'"}\n'
    content = lines * (2 * PART_BYTES // len(lines))
    begun = await begin(service, "many.jsonl", len(content), who)
    place = begun.headers["location"]

    async def half() -> AsyncIterator[bytes]:
        for start in range(0, PART_BYTES + 100_000, 65_536):
            yield content[start : start + 65_536]
        raise ConnectionResetError

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client makes of its own cut
        await service.client.patch(place, content=half(), headers=who | _BYTES | {"upload-offset": "0"})
    told = await service.client.head(place, headers=who)
    for _ in range(100):  # the service notices the cut when it reads on
        if told.headers["upload-offset"] == str(PART_BYTES):
            break
        await asyncio.sleep(0.02)
        told = await service.client.head(place, headers=who)
    offset = int(told.headers["upload-offset"])
    assert (offset, told.headers["upload-length"]) == (PART_BYTES, str(len(content)))
    wrong = await service.client.patch(place, content=b"x", headers=who | _BYTES | {"upload-offset": "7"})
    assert wrong.status_code == 409
    sent = await service.client.patch(
        place, content=content[offset:], headers=who | _BYTES | {"upload-offset": str(offset)}
    )
    assert sent.headers["upload-offset"] == str(len(content))
    stored = next((service.state_dir / "tenants/clinic/uploads").glob("*/*/content"))
    assert stored.read_bytes() == content


async def test_a_refusal_is_told(service: RunningService) -> None:
    who = owner(service)
    for path, size_bytes, code in (
        (".DS_Store", 10, 422),
        ("files.zip", 10, 422),
        ("../etc/x.md", 10, 422),
        ("large.md", 6_000_000, 413),
        ("empty.md", 0, 422),
    ):
        refused = await begin(service, path, size_bytes, who)
        assert refused.status_code == code, path
    result = await upload(service, "bad.md", b"\xff\xfe", who)
    assert result["refused"] == 1
    assert "not UTF-8" in result["refusals"][0]["reason"]


async def test_what_an_owner_may_not_see_they_cannot_replace(service: RunningService) -> None:
    hanna = owner(service, "hanna", "hr")
    page = b"---\nlabels: [hr]\n---\n" + PAGE
    assert (await upload(service, "pay.md", page, hanna))["added"] == 1
    for content in (PAGE, page, b"---\nlabels: [\n---\n", b"---\nid: pay\nwithdrawn: true\n---\n"):
        result = await upload(service, "pay.md", content, owner(service))
        assert result["added"] + result["changed"] + result["withdrawn"] == 0 or result["refused"], content
        code, found = await status(service, "pay", hanna)
        assert (code, found["state"], found["labels"]) == (200, "received", ["hr"])


async def test_uploads_are_their_owners_and_bounded(service: RunningService) -> None:
    who, other = owner(service), owner(service, "hanna")
    places = [(await begin(service, f"f{n}.md", 10, who)).headers["location"] for n in range(MOST_OPEN)]
    assert (await begin(service, "more.md", 10, who)).status_code == 429
    assert (await begin(service, "more.md", 10, other)).status_code == 201
    assert (await service.client.head(places[0], headers=other)).status_code == 404
    sent = await service.client.patch(
        places[0], content=b"x" * 11, headers=who | _BYTES | {"upload-offset": "0"}
    )
    assert sent.status_code == 413
    agent = service.headers("olga", roles=["agent"])
    assert (await begin(service, "more.md", 10, agent)).status_code == 403


async def test_a_document_is_replaced_and_an_older_content_restored(service: RunningService) -> None:
    who = owner(service, "wim", "hr")
    await upload(service, "pay/refunds.md", PAGE, who, knowledge_source="wiki")
    newer = b"---\nreview_after: 2027-01-31\n---\n# Refunds\n\nA refund takes nine days.\n"
    result = await upload(service, "pay/renamed.txt.md", newer, who, replaces="wiki:pay-refunds")
    assert (result["changed"], result["document_ids"]) == (1, ["wiki:pay-refunds"])
    place = "/v1/documents/wiki:pay-refunds"
    details = (await service.client.get(f"{place}/details", headers=who)).json()
    assert details["status"]["review_after"] == "2027-01-31"
    assert [(one["is_newest"], one["labels"]) for one in details["contents"]] == [
        (True, ["hr"]),
        (False, ["hr"]),
    ]
    older = {"content_hash": details["contents"][1]["content_hash"]}
    restored = await service.client.post(f"{place}/restore", json=older, headers=who)
    assert (restored.status_code, restored.json()["content_hash"]) == (202, older["content_hash"])
    other = owner(service, "wim")  # the same writer without the label
    for refused in (
        await service.client.get(f"{place}/details", headers=other),
        await service.client.post(f"{place}/restore", json=older, headers=other),
    ):
        assert refused.status_code == 404
    await service.client.delete(place, headers=who)
    details = (await service.client.get(f"{place}/details", headers=who)).json()
    assert (details["status"]["state"], details["contents"]) == ("withdrawn", [])


async def test_the_answers_that_cited_a_document_are_told_without_their_questions(
    service: RunningService,
) -> None:
    answer = await service.answered()
    details = await service.client.get("/v1/documents/wait/details", headers=owner(service))
    assert [one["answer_id"] for one in details.json()["answers"]] == [answer["answer_id"]]
    assert "How long" not in details.text


async def test_the_sources_that_a_person_may_write_are_told(service: RunningService) -> None:
    told = await service.client.get("/v1/knowledge-sources", headers=owner(service, "wim", "hr"))
    assert told.json()["sources"] == [
        {"name": "handbook", "access": "everyone", "folders": []},
        {"name": "wiki", "access": "folder", "folders": [""]},
    ]
    told = await service.client.get("/v1/knowledge-sources", headers=owner(service))
    assert [source["name"] for source in told.json()["sources"]] == ["handbook"]
