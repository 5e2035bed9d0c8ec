"""The deployed functions delete every raw version from the quarantine, and write a clean copy."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from assistant.domain.errors import DependencyError
from assistant.models.redaction import RedactCapture, SweepQuarantine
from assistant.process.aws import open_client
from assistant.process.settings import RedactingSettings
from assistant.stores.captures import StoredCaptures
from tests.breaking.restored_site import KEY
from tests.node.lambdas.conftest import RAW, called_once, entry_of
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_documents_bucket
from tests.stage.lambda_events import object_created, sqs_event


class LaterCaptures(StoredCaptures):
    """The stores half an hour later."""

    async def now(self) -> datetime:
        return await super().now() + timedelta(minutes=30)


@dataclass
class Buckets:
    s3: Any
    quarantine: str
    clean: str

    async def put(self, key: str = KEY, content: bytes = RAW) -> None:
        await self.s3.put_object(Bucket=self.quarantine, Key=key, Body=content)

    async def raw_versions(self) -> list[str]:
        listed = await self.s3.list_object_versions(Bucket=self.quarantine)
        return [each["Key"] for each in (*listed.get("Versions", ()), *listed.get("DeleteMarkers", ()))]

    async def clean_copy(self, key: str = KEY) -> bytes:
        found = await self.s3.get_object(Bucket=self.clean, Key=key)
        return await found["Body"].read()

    def store(self, kind: type[StoredCaptures] = StoredCaptures) -> StoredCaptures:
        return kind.on_aws(self.s3, quarantine_bucket=self.quarantine, capture_bucket=self.clean)


@pytest.fixture
async def buckets(aws_server_url: str) -> AsyncIterator[Buckets]:
    name = uuid.uuid4().hex[:12]
    async with open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3:
        made = Buckets(s3, f"quarantine-{name}", f"clean-{name}")
        for bucket in (made.quarantine, made.clean):
            await create_documents_bucket(s3, bucket=bucket)
        yield made


def function(
    module: str, buckets: Buckets, aws_url: str, monkeypatch: pytest.MonkeyPatch, **more: object
) -> Any:
    given = more | {
        "region": REGION,
        "aws_endpoint_url": aws_url,
        "quarantine_bucket": buckets.quarantine,
        "capture_bucket": buckets.clean,
        "metrics_service": "test",
    }
    return partial(called_once, entry_of(module, RedactingSettings, given, monkeypatch))


async def test_an_object_is_redacted_and_gone_in_every_version(
    buckets: Buckets, aws_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await buckets.put(content=b"an older version, Mrs Doe")
    await buckets.put()
    redact = function("redact_capture", buckets, aws_server_url, monkeypatch)

    answered = await redact(sqs_event("captured", [object_created(buckets.quarantine, KEY)]))

    assert answered == {"batchItemFailures": []}
    assert await buckets.raw_versions() == []
    clean = await buckets.clean_copy()
    assert json.loads(clean)["event_id"] == "e1"
    assert b"Doe" not in clean


async def test_kept_words_hold_no_canary_in_any_object(
    buckets: Buckets, aws_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "Question: Marisol Quintero, member ID 88213 04417, asks for a refill of warfarin."
    prompt = f"<document 1>\nTitle: Of Marisol Quintero\n</document>\n\n{asked}"
    for key, encoding in ((KEY, "JSON"), (f"{KEY}.base64.jsonl", "BASE64")):
        body = json.dumps({"messages": [{"role": "user", "content": prompt}]})
        data = base64.b64encode(body.encode()).decode() if encoding == "BASE64" else body
        call = {"endpointInput": {"data": data, "encoding": encoding}}
        event = {"eventId": "e1", "inferenceId": "Marisol", "customAttributes": ["Marisol Quintero"]}
        await buckets.put(key, json.dumps({"captureData": call, "eventMetadata": event}).encode())
        redact = function("redact_capture", buckets, aws_server_url, monkeypatch, keeps_texts=True)
        answered = await redact(sqs_event("captured", [object_created(buckets.quarantine, key)]))
        assert answered == {"batchItemFailures": []}

    found = await buckets.s3.list_objects_v2(Bucket=buckets.clean)
    contents = [each["Key"].encode() + await buckets.clean_copy(each["Key"]) for each in found["Contents"]]
    assert len(contents) == 2
    for content in contents:
        assert b"asks for a refill of warfarin." in content
        assert not [word for word in (b"Quintero", b"88213", b"04417", b"Title") if word in content]


async def test_an_event_that_comes_twice_keeps_the_clean_copy(
    buckets: Buckets, aws_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await buckets.put()
    event = sqs_event("captured", [object_created(buckets.quarantine, KEY)])
    for _ in range(2):
        redact = function("redact_capture", buckets, aws_server_url, monkeypatch)
        assert await redact(event) == {"batchItemFailures": []}

    assert json.loads(await buckets.clean_copy())["event_id"] == "e1"


async def test_a_failed_copy_leaves_the_raw_object_and_its_message(
    buckets: Buckets, aws_server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await buckets.put()
    await buckets.s3.delete_bucket(Bucket=buckets.clean)
    redact = function("redact_capture", buckets, aws_server_url, monkeypatch)

    answered = await redact(sqs_event("captured", [object_created(buckets.quarantine, KEY)]))

    assert answered == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert await buckets.raw_versions() == [KEY]


def sweep(store: StoredCaptures) -> SweepQuarantine:
    redact = RedactCapture(store, passages_percent=0)
    return SweepQuarantine(store, redact=redact, overdue_after_s=1200)


async def test_the_sweep_redacts_what_is_overdue_and_leaves_what_is_new(buckets: Buckets) -> None:
    await buckets.put()

    assert await sweep(buckets.store())() < 1200
    assert await buckets.raw_versions() == [KEY]
    assert await sweep(buckets.store(LaterCaptures))() == 0
    assert await buckets.raw_versions() == []


async def test_the_sweep_reports_the_age_of_an_object_that_failed_and_goes_on(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await buckets.put("a/stuck.jsonl")
    await buckets.put("b/fine.jsonl")
    put_clean = StoredCaptures.put_clean

    async def refuses_one(store: StoredCaptures, key: str, content: bytes) -> None:
        if key.startswith("a/"):
            raise DependencyError("Not now.")
        await put_clean(store, key, content)

    monkeypatch.setattr(StoredCaptures, "put_clean", refuses_one)

    assert await sweep(buckets.store(LaterCaptures))() >= 1800
    assert await buckets.raw_versions() == ["a/stuck.jsonl"]
