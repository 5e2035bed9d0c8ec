"""Files that are uploaded: they are read as their owner's, and say what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from assistant.documents.receive import AddDocuments
from assistant.documents.uploads import MOST_TRIES, ReceiveUpload, ReceivingLoop
from assistant.domain.errors import DependencyError
from assistant.stores.uploads import PART_BYTES
from tests.integration.service.callers import SOURCES, owner
from tests.stage.running_service import RunningService, Scene, eventually, running_service
from tests.stage.sagemaker_runtime import DIMENSIONS
from tests.stage.tenant_stores import TenantStores

PAGE = b"# Refunds\n\nA refund takes three days.\n"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=SOURCES)) as running:
        await running.know("wait", "The wait is two days.")
        yield running


async def send(service: RunningService, path: str, content: Any, who: dict[str, str], **params: str) -> Any:
    return await service.client.post(
        "/v1/uploads", params={"path": path, **params}, content=content, headers=who
    )


async def upload(
    service: RunningService, path: str, content: bytes, who: dict[str, str], **params: str
) -> dict[str, Any]:
    """Upload a file, have the worker read it, and return its result."""
    sent = await send(service, path, content, who, **params)
    assert sent.status_code == 202, sent.text
    await read(service)
    found = await result_of(service, sent, who)
    assert found is not None
    return found


async def result_of(service: RunningService, sent: Any, who: dict[str, str]) -> dict[str, Any] | None:
    params = {"upload_id": sent.json()["upload_id"]}
    found = await service.client.get("/v1/uploads", params=params, headers=who)
    return found.json()["uploads"][0]["result"]


async def read(service: RunningService) -> None:
    """Do what the worker does with an upload that is complete."""
    stores = stores_of(service)
    await ReceivingLoop(receiver(service, stores), stores.received_uploads).turn()
    await stores.close()


def receiver(service: RunningService, stores: TenantStores) -> ReceiveUpload:
    served = service.tenants["clinic"]
    add = AddDocuments(stores.knowledge, clock=served.answering.clock, accesses=stores.records)
    return ReceiveUpload(stores.uploads, sources=served.sources, add=add)


def stores_of(service: RunningService) -> TenantStores:
    return TenantStores(
        service.state_dir / "tenants/clinic", embedding_model="tiny-embedding", dimensions=DIMENSIONS
    )


async def status(service: RunningService, document_id: str, who: dict[str, str]) -> tuple[int, Any]:
    response = await service.client.get(f"/v1/documents/{document_id}/status", headers=who)
    return response.status_code, response.json()


async def test_of_a_cut_upload_nothing_is_kept(service: RunningService) -> None:
    folder = service.state_dir / "tenants/clinic/uploads"

    async def half() -> AsyncIterator[bytes]:
        for _ in range(PART_BYTES // 65_536 + 2):
            yield b"x" * 65_536
        await eventually(lambda: any(folder.glob("*/*/content")))
        raise ConnectionResetError

    who = owner(service) | {"content-length": str(2 * PART_BYTES)}
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client makes of its own cut
        await send(service, "many.jsonl", half(), who)
    await eventually(lambda: not any(folder.glob("*/*")))


async def test_an_upload_that_does_not_say_its_length_is_refused(service: RunningService) -> None:
    async def unknown() -> AsyncIterator[bytes]:
        yield PAGE

    refused = await send(service, "a.md", unknown(), owner(service))
    assert (refused.status_code, "content-length" in refused.json()["detail"]) == (422, True)


ODD_NAMES = (
    f"guide.{'a' * 250}.md",
    f"{'g' * 500}/{'u' * 480}.md",
    f"archive.tar.{'b' * 250}.jsonl",
    "Gehälter 2026 (neu) ?*<>|:\\ „final“.md",
    "💊.md",
    "CON.md",
)


async def test_an_upload_ends_with_a_result_whatever_its_name(service: RunningService) -> None:
    for path in ODD_NAMES:
        content = b'{"id": "n", "title": "T", "text": "Two days."}\n' if path.endswith("l") else PAGE
        result = await upload(service, path, content, owner(service))
        assert (result["added"], result["refusals"]) == (1, []) or result["refusals"][0]["reason"], path
        if "g" * 500 not in path:
            assert result["added"] == 1, path


async def test_an_upload_that_can_never_be_read_gets_a_result_that_says_so(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        raise DependencyError("The store of uploads failed. Retry.")

    who = owner(service)
    sent = await send(service, "a.md", PAGE, who)
    stores = stores_of(service)
    monkeypatch.setattr(type(stores.uploads), "fetch", never)
    receive = receiver(service, stores)
    (message,) = await stores.received_uploads.receive(limit=1, wait_s=0, visibility_timeout_s=60)
    for attempt in range(1, MOST_TRIES + 1):
        with pytest.raises(DependencyError):
            await receive(message.document_id, attempt=attempt)
    assert await result_of(service, sent, who) is None
    await receive(message.document_id, attempt=MOST_TRIES + 1)
    await stores.close()
    result = await result_of(service, sent, who)
    assert result is not None
    assert result["refused"] == 1
    assert "could not be read in 5 tries. Send it again" in result["refusals"][0]["reason"]


async def test_a_refusal_is_told(service: RunningService) -> None:
    who = owner(service)
    for path, size_bytes, code in (
        (".DS_Store", 10, 422),
        ("files.zip", 10, 422),
        ("../etc/x.md", 10, 422),
        ("large.md", 6_000_000, 413),
        ("empty.md", 0, 422),
    ):
        refused = await send(service, path, b"x" * size_bytes, who)
        assert refused.status_code == code, path
    result = await upload(service, "bad.md", b"Caf\x81", who)
    assert result["refused"] == 1
    assert "encoding is unknown" in result["refusals"][0]["reason"]


async def test_what_an_owner_may_not_see_they_cannot_replace(service: RunningService) -> None:
    hanna = owner(service, "hanna", "hr")
    page = b"---\nlabels: [hr]\n---\n" + PAGE
    assert (await upload(service, "pay.md", page, hanna))["added"] == 1
    for content in (PAGE, page, b"---\nlabels: [\n---\n", b"---\nid: pay\nwithdrawn: true\n---\n"):
        result = await upload(service, "pay.md", content, owner(service))
        assert result["added"] + result["changed"] + result["withdrawn"] == 0 or result["refused"], content
        code, found = await status(service, "pay", hanna)
        assert (code, found["state"], found["labels"]) == (200, "received", ["hr"])


async def test_uploads_are_their_owners(service: RunningService) -> None:
    sent = await send(service, "f.md", PAGE, owner(service))
    params = {"upload_id": sent.json()["upload_id"]}
    found = await service.client.get("/v1/uploads", params=params, headers=owner(service, "hanna"))
    assert found.json() == {"uploads": []}
    agent = service.headers("olga", roles=["agent"])
    assert (await send(service, "more.md", PAGE, agent)).status_code == 403


async def test_a_document_is_replaced_and_an_older_content_restored(service: RunningService) -> None:
    who = owner(service, "wim", "hr")
    await upload(service, "pay/refunds.md", PAGE, who, knowledge_source="wiki")
    newer = b"---\nreview_after: 2027-01-31\n---\n# Refunds\n\nA refund takes nine days.\n"
    code, found = await status(service, "wiki:pay-refunds", who)
    assert (code, found["title"], found["labels"]) == (200, "Refunds", ["hr"])
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
