"""What the local worker keeps of captured calls: by every tenant's file, and for days."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from assistant.models.redaction import LocalCapture
from assistant.process.settings import WorkerSettings
from tests.fakes.running_service import eventually

TENANT = 'schema_version = 1\nname = "{name}"\ndisplay_name = "{name}"\n'
KEPT = '[models]\nllm = "one"\nembedding = "two"\ncapture_texts = "redacted"\n'
RAW = {
    "captureData": {
        "endpointInput": {
            "data": json.dumps({"messages": [{"role": "user", "content": "Question: a refill?"}]}),
            "encoding": "JSON",
        }
    },
    "eventMetadata": {"inferenceId": "call-1"},
}
KEY = "llm/AllTraffic/2026/11/20/12/calls.jsonl"


def capture_of(folder: Path, *files: str) -> LocalCapture:
    tenants = folder / "tenants"
    tenants.mkdir()
    for number, more in enumerate(files):
        (tenants / f"tenant-{number}.toml").write_text(TENANT.format(name=f"tenant-{number}") + more)
    raw = folder / "state" / "capture" / "raw" / KEY
    raw.parent.mkdir(parents=True)
    raw.write_text(json.dumps(RAW))
    return LocalCapture.of(WorkerSettings.read(tenants_dir=tenants, state_dir=folder / "state"))


@pytest.mark.parametrize(
    ("files", "is_kept"),
    [((KEPT, KEPT), True), ((KEPT, ""), False), (("",), False), ((KEPT, "wrong"), False)],
)
async def test_words_are_kept_where_every_tenant_of_the_machine_allows_it(
    tmp_path: Path, files: tuple[str, ...], *, is_kept: bool
) -> None:
    capture = capture_of(tmp_path, *files)
    await capture.sweep()
    line = json.loads(await capture.store.clean.get(KEY) or b"")
    (message,) = line["request"]["messages"]
    assert message.get("text") == ("Question: a refill?" if is_kept else None)
    assert message["characters"] == 19


async def test_old_copies_are_deleted_and_new_ones_stay(tmp_path: Path) -> None:
    capture = capture_of(tmp_path, "")
    for key, age_days in ((KEY, 6), (f"{KEY}.old.jsonl", 8)):
        await capture.store.clean.put(key, b"{}")
        at = time.time() - 86_400 * age_days
        os.utime(tmp_path / "state" / "capture" / "clean" / key, (at, at))
    stopping = asyncio.Event()
    running = asyncio.create_task(capture.run(stopping))

    async def is_deleted() -> bool:
        return len([blob.key async for blob in capture.store.clean.list("")]) == 1

    await eventually(is_deleted)
    stopping.set()
    await running
    assert [blob.key async for blob in capture.store.clean.list("")] == [KEY]
