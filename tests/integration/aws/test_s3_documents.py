"""Documents in S3 beyond their contract: what stands in the bucket, what is removed from it, broken ways."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.documents import ParsedDocument
from assistant.domain.errors import DependencyError, DocumentInvalidError
from assistant.process.aws import ClientLimits, open_client
from assistant.stores import s3
from assistant.stores.documents import StoredDocuments
from assistant.stores.s3 import S3Blobs
from tests.contracts import samples
from tests.contracts.aws_twins import tenant_name
from tests.emulated_aws import create_documents_bucket, documents_in
from tests.fakes.aws_server import REGION, create_key
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind, Request, faulty_proxy

IMPATIENT = ClientLimits(read_timeout_s=1.5, pool_connections=8, attempts=1)
PARSED = ParsedDocument(text="Wait until day 24.", sections=())


@dataclass
class Bucket:
    """A tenant's documents behind a way that can break."""

    name: str
    key_id: str
    client: Any
    store: StoredDocuments
    """Calls once, so that tests of faults are quick."""
    persistent: StoredDocuments
    """Calls as often as the service does."""
    way: FaultyProxy

    async def versions(self) -> list[dict[str, Any]]:
        found = await self.client.list_object_versions(Bucket=self.name)
        return [*found.get("Versions", []), *found.get("DeleteMarkers", [])]

    async def keys(self) -> set[str]:
        return {version["Key"] for version in await self.versions()}


@pytest.fixture
async def bucket(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Bucket]:
    name = tenant_name(tmp_path)
    async with (
        faulty_proxy(aws_server_url) as way,
        open_client("kms", region=REGION, endpoint_url=aws_server_url) as kms,
        open_client("s3", region=REGION, endpoint_url=aws_server_url) as client,
        open_client("s3", region=REGION, endpoint_url=way.url, limits=IMPATIENT) as impatient,
        open_client("s3", region=REGION, endpoint_url=way.url) as patient,
    ):
        key_id = await create_key(kms, alias=name)
        await create_documents_bucket(client, bucket=name, kms_key_id=key_id)
        store, persistent = [
            documents_in(each, bucket=name, kms_key_id=key_id) for each in (impatient, patient)
        ]
        yield Bucket(name, key_id, client, store, persistent, way)


async def test_an_object_is_encrypted_with_the_key_and_carries_its_checksum(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    (key,) = await bucket.keys()
    head = await bucket.client.head_object(Bucket=bucket.name, Key=key, ChecksumMode="ENABLED")
    body = await (await bucket.client.get_object(Bucket=bucket.name, Key=key))["Body"].read()
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", bucket.key_id)
    assert head["ContentType"] == "application/json"
    assert base64.b64decode(head["ChecksumSHA256"]) == hashlib.sha256(body).digest()


async def test_an_object_that_comes_in_parts_is_encrypted_with_the_key(bucket: Bucket) -> None:
    """Also where the bucket's own default is another key."""
    plain = f"{bucket.name}-parts"
    await create_documents_bucket(bucket.client, bucket=plain)

    async def parts() -> AsyncIterator[bytes]:
        yield b"whole"

    await S3Blobs(bucket.client, bucket=plain, kms_key_id=bucket.key_id).store("file", parts())
    head = await bucket.client.head_object(Bucket=plain, Key="file")
    assert (head["ServerSideEncryption"], head.get("SSEKMSKeyId")) == ("aws:kms", bucket.key_id)


@pytest.mark.parametrize("document_id", ["..", "é" * 256, "{tenant}"])
async def test_a_key_is_made_of_hashes_under_the_prefix(bucket: Bucket, document_id: str) -> None:
    await bucket.store.put(samples.document(document_id))
    await bucket.store.put_parsed(document_id, "../../hash", PARSED)
    folder = f"documents/{hashlib.sha256(document_id.encode()).hexdigest()}/"
    parsed = hashlib.sha256(b"../../hash").hexdigest()
    assert await bucket.keys() == {f"{folder}document.json", f"{folder}parsed/{parsed}.json"}


async def test_a_deletion_leaves_no_version_and_no_marker(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_VERSIONS_AT_ONCE", 3)
    for content in ("One.", "Two.", "Three.", "Four."):
        await bucket.store.put(samples.document(content=content))
        await bucket.store.put_parsed("refill", content, PARSED)
    (key, *_) = await bucket.keys()
    await bucket.client.delete_object(Bucket=bucket.name, Key=key)
    assert len(await bucket.versions()) == 9
    await bucket.store.delete("refill")
    assert await bucket.versions() == []


async def test_an_object_without_a_checksum_is_not_believed(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    (key,) = await bucket.keys()
    body = samples.document(content="Written by nobody.").model_dump_json().encode()
    await bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body, ChecksumAlgorithm="CRC32")
    with pytest.raises(DocumentInvalidError, match="damaged"):
        await bucket.store.get("refill")


async def test_an_object_with_another_checksum_is_refused(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    (key,) = await bucket.keys()
    body = samples.document(content="Changed.").model_dump_json().encode()
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    await bucket.client.put_object(
        Bucket=bucket.name, Key=key, Body=body, ChecksumAlgorithm="SHA256", ChecksumSHA256=other
    )
    with pytest.raises(DocumentInvalidError, match="damaged"):
        await bucket.store.get("refill")


async def test_a_document_of_another_id_is_not_believed(bucket: Bucket) -> None:
    await bucket.store.put(samples.document("other"))
    (other,) = await bucket.keys()
    key = f"documents/{hashlib.sha256(b'refill').hexdigest()}/document.json"
    content = await (await bucket.client.get_object(Bucket=bucket.name, Key=other))["Body"].read()
    await bucket.client.put_object(Bucket=bucket.name, Key=key, Body=content, ChecksumAlgorithm="SHA256")
    with pytest.raises(DocumentInvalidError, match="damaged"):
        await bucket.store.get("refill")


def flipped(data: bytes) -> bytes:
    return data.replace(b"24", b"42")


async def test_bytes_that_change_on_the_way_are_an_error_and_no_text(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    await bucket.store.put_parsed("refill", "hash", PARSED)
    await bucket.way.break_by(Fault(Kind.ALTER, of=_is("GET"), alter=flipped))
    with pytest.raises(DocumentInvalidError, match="damaged"):
        await bucket.store.get("refill")
    with pytest.raises(DocumentInvalidError, match="damaged"):
        await bucket.store.get_parsed("refill", "hash")


async def test_a_body_damaged_in_transit_is_read_again(bucket: Bucket) -> None:
    await bucket.store.put_parsed("refill", "hash", PARSED)
    asked_before = len(bucket.way.requests)
    first = Fault(Kind.ALTER, of=lambda _: len(bucket.way.requests) == asked_before + 1, alter=flipped)
    await bucket.way.break_by(first)
    assert await bucket.store.get_parsed("refill", "hash") == PARSED
    assert len(bucket.way.requests) == asked_before + 2


def _is(*methods: str) -> Callable[[Request], bool]:
    return lambda request: request.method in methods


def _error(status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


FAULTS = {
    "stalled": Fault(Kind.STALL),
    "503": Fault(Kind.ANSWER, answer=_error(503, "SlowDown")),
    "no rights": Fault(Kind.ANSWER, answer=_error(403, "AccessDenied")),
    "other xml": Fault(Kind.ANSWER, answer=b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<a/>"),
}
CALLS: dict[str, Callable[[StoredDocuments], Awaitable[object]]] = {
    "get": lambda store: store.get("refill"),
    "put": lambda store: store.put(samples.document(content="Newer.")),
    "delete": lambda store: store.delete("refill"),
}


BROKEN = [(fault, call) for fault in FAULTS for call in CALLS]
BROKEN.remove(("other xml", "put"))  # the status alone says that an object is written


@pytest.mark.parametrize(("fault", "call"), BROKEN)
async def test_a_broken_connection_is_an_error_until_it_is_restored(
    bucket: Bucket, fault: str, call: str
) -> None:
    await bucket.store.put(samples.document())
    await bucket.way.break_by(FAULTS[fault])
    with pytest.raises((DependencyError, DocumentInvalidError)) as raised:
        await CALLS[call](bucket.store)
    assert "Wait until" not in str(raised.value)
    assert fault == "other xml" or isinstance(raised.value, DependencyError)
    await bucket.way.heal()
    found = await bucket.store.get("refill")
    assert found is not None
    await CALLS[call](bucket.store)


async def test_a_throttled_call_is_made_again(bucket: Bucket) -> None:
    begun = len(bucket.way.requests)
    once = Fault(
        Kind.ANSWER, of=lambda _: len(bucket.way.requests) == begun + 1, answer=_error(503, "SlowDown")
    )
    await bucket.way.break_by(once)
    await bucket.persistent.put(samples.document())
    assert len(bucket.way.requests) == begun + 2


async def test_calls_are_made_three_times_at_most(bucket: Bucket) -> None:
    begun = len(bucket.way.requests)
    await bucket.way.break_by(FAULTS["503"])
    with pytest.raises(DependencyError, match="SlowDown"):
        await bucket.persistent.put(samples.document())
    assert len(bucket.way.requests) == begun + 3


async def test_versions_that_may_not_be_deleted_are_an_error(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    body = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    await bucket.way.break_by(Fault(Kind.ANSWER, of=_is("POST"), answer=answer))
    with pytest.raises(DependencyError, match="AccessDenied"):
        await bucket.store.delete("refill")
