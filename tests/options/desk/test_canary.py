"""A withdrawal and its receipt: a canary that was used everywhere is found where the receipt says, and only
there."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from assistant.documents.withdraw import remove_documents
from assistant.domain.clock import SystemClock
from assistant.domain.desk import BoundSource, DeskKind, ItemState, first_revision
from assistant.domain.documents import Document
from assistant.options.desk import upkeep
from assistant.options.desk.opened import open_movers
from assistant.text.caches import FORGET_EVERY_S
from tests.options.desk.desk import AT, approved
from tests.stage.running_service import DIGEST, DIMENSIONS, RunningService, Scene, eventually, running_service
from tests.stage.tenant_stores import TenantStores

CANARY = "zylophage"
STEM = CANARY[:-1]
QUESTION = "How long is the wait?"
SENT = "Forty zylowords, says the sending agent."
OLDER = f"The {CANARY} wait was two days."
TEXT = f"The {CANARY} wait is four days, and it ends at noon."


def stores_of(service: RunningService) -> TenantStores:
    folder = service.state_dir / "tenants" / "clinic"
    return TenantStores(folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST)


async def use_everywhere(service: RunningService) -> str:
    """Load the canary twice, quote it, approve it, mark it; return the id of the answer."""
    await service.know("leaflet", OLDER)
    document = await service.know("leaflet", TEXT)
    stores = stores_of(service)
    try:
        for revision, state in enumerate((ItemState.PROPOSED, ItemState.LIVE), start=1):
            await stores.desk.put(_approval(document, state).model_copy(update={"revision": revision}))
    finally:
        await stores.close()
    answer = await service.answered(question=QUESTION, body={"resume_window_s": 15})
    assert CANARY in answer["text"]
    verdict = {"verdict_id": "v1", "label": "bad", "reasons": ["wrong"]}
    path = f"/v1/answers/{answer['answer_id']}/verdict"
    assert (await service.client.post(path, json=verdict, headers=service.headers())).is_success
    await service.send_anyway(answer["answer_id"], SENT)
    await service.idle()
    assert service.settings is not None
    async with open_movers(service.settings) as movers:
        for move in movers:
            await move()
    return answer["answer_id"]


def _approval(document: Document, state: ItemState) -> Any:
    source = BoundSource(document_id="leaflet", content_hash=document.content_hash())
    body = approved("Is there a wait?", f"Yes: the {CANARY} wait.", sources=[source], state=state)
    return first_revision(DeskKind.APPROVED_ANSWER, "one", body, by="rita", at=AT)


async def receipt_of(service: RunningService, status: int = 200, **who: Any) -> Any:
    owner = service.headers(**({"agent": "olga", "roles": ["knowledge_owner"]} | who))
    response = await service.client.get("/v1/documents/leaflet/receipt", headers=owner)
    assert response.status_code == status, response.text
    return response.json()


def files_with(folder: Path, word: str) -> set[str]:
    """Return the files whose bytes hold the word: as UTF-8, as UTF-16, or in a stream of zlib that begins at
    any place, freed pages included."""
    wanted = [one for text in (word, word.capitalize()) for one in (text.encode(), text.encode("utf-16-le"))]
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            texts = (content, *_unpacked(content))
            if any(one in text for one in wanted for text in texts):
                found.add(path.name)
    return found


def _unpacked(content: bytes) -> Iterator[bytes]:
    for header in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        at = content.find(header)
        while at >= 0:
            with suppress(zlib.error):
                yield zlib.decompressobj().decompress(content[at:])
            at = content.find(header, at + 1)


@pytest.fixture(autouse=True)
def quick_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "UPKEEP_EVERY_S", 0.1)


async def test_a_canary_is_found_nowhere_but_where_the_receipt_says(tmp_path: Path) -> None:
    async with running_service(tmp_path / "service", Scene(tenants=("clinic",), writes=False)) as service:
        await use_everywhere(service)
        kinds = {name.partition("-")[0] for name in files_with(service.state_dir, STEM)}
        assert {"leaflet", "passages.sqlite", "desk.sqlite"} <= kinds  # before: the scan sees them
        assert (await receipt_of(service, 409))["code"] == "conflict"
        owner = service.headers("olga", roles=["knowledge_owner"])
        assert (await service.client.delete("/v1/documents/leaflet", headers=owner)).status_code == 202
        first = await receipt_of(service)
        pending = {place["place"] for place in first["places"] if place["state"] == "pending"}
        assert {"index", "vectors", "feedback"} <= pending
        assert {place["place"]: place["found"] for place in first["places"]}["index"] > 0
        assert not first["is_complete"]

        stores = stores_of(service)
        try:
            await remove_documents(
                ["leaflet"],
                stores=stores.knowledge,
                index=stores.index,
                index_writes=asyncio.Lock(),
                clock=SystemClock(),
                keys=stores.erasure_keys,
            )
        finally:
            await stores.close()

        async def is_complete() -> bool:
            return (await receipt_of(service))["is_complete"]

        await eventually(is_complete)
        receipt = await receipt_of(service)
        counted = {
            place["place"]: place["found"] for place in receipt["places"] if place["found"] is not None
        }
        assert counted == dict.fromkeys(counted, 0)
        assert {"document", "index", "vectors", "approved_answers", "feedback"} <= counted.keys()
        assert files_with(service.state_dir, STEM) == set()
        assert receipt["withdrawn_at"] > first["withdrawn_at"]  # what the worker deletes stays from then on
        (memory,) = [place for place in receipt["places"] if place["place"] == "memory"]
        kept_for = datetime.fromisoformat(memory["until"]) - datetime.fromisoformat(receipt["withdrawn_at"])
        assert kept_for.total_seconds() == FORGET_EVERY_S
        remaining = {place["place"] for place in receipt["places"] if place["state"] == "remains"}
        assert "record_words" in remaining  # and so what was sent may stay
        assert {name.partition("-")[0] for name in files_with(service.state_dir, SENT)} == {"records.sqlite"}
