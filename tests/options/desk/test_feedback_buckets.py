"""Feedback in two buckets of S3: which of them has what, and that labels can be put under a lock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS
from assistant.process.aws import open_client
from assistant.stores.s3 import S3Blobs
from tests.contracts.aws_twins import tenant_name
from tests.fakes.aws_server import REGION

LABEL, TEXT = "events/dt=2026-11-20/aa.jsonl", "texts/00/00.json"
LOCK = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 400}},
}


@asynccontextmanager
async def _buckets(place: Path, url: str) -> AsyncGenerator[tuple[Any, str, str]]:
    """Yield a client, and the names of a locked bucket and of one without a lock."""
    name = tenant_name(place)
    async with open_client("s3", region=REGION, endpoint_url=url) as s3:
        await s3.create_bucket(Bucket=f"{name}-labels", ObjectLockEnabledForBucket=True)
        await s3.put_object_lock_configuration(Bucket=f"{name}-labels", ObjectLockConfiguration=LOCK)
        await s3.create_bucket(Bucket=f"{name}-texts")
        yield s3, f"{name}-labels", f"{name}-texts"


@pytest.fixture
async def stored(tmp_path: Path, aws_server_url: str) -> AsyncGenerator[tuple[Any, str, str]]:
    async with _buckets(tmp_path, aws_server_url) as opened:
        yield opened


async def keys(client: Any, bucket: str) -> list[str]:
    found = await client.list_objects_v2(Bucket=bucket)
    return [each["Key"] for each in found.get("Contents", [])]


async def test_labels_and_texts_are_in_buckets_of_their_own(stored: tuple[Any, str, str]) -> None:
    client, labels, texts = stored
    files = S3Blobs.of(FEEDBACK_FILES, client, bucket=labels, beside={TEXTS: texts})
    await files.add(LABEL, b"{}")
    await files.add(TEXT, b"{}")
    assert (await keys(client, labels), await keys(client, texts)) == ([LABEL], [TEXT])
    assert [found.key async for found in files.list("texts/")] == [TEXT]
    assert await files.get(TEXT) == await files.get(LABEL) == b"{}"
