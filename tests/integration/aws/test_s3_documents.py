"""Documents and artifacts in S3: what stands in the bucket, what is removed from it, broken ways."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.documents import ParsedDocument
from assistant.domain.errors import ConfigurationError, DependencyError, DocumentInvalidError
from assistant.models.artifacts import read_model_facts
from assistant.models.opened import download_artifacts
from assistant.process.aws import ClientLimits, open_client
from assistant.stores.documents import StoredDocuments
from assistant.stores.s3 import S3Blobs, download_tenant_file
from assistant.tenant.tenant import load_tenants
from tests.contracts import samples
from tests.contracts.twins import tenant_name
from tests.stage.aws_server import REGION, create_key
from tests.stage.emulated_aws import create_documents_bucket, documents_in
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind, Request, faulty_proxy
from tests.stage.servers import Exchange, scripted_http

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
    monkeypatch.setattr("assistant.stores.s3._VERSIONS_AT_ONCE", 3)
    for content in ("One.", "Two.", "Three.", "Four."):
        await bucket.store.put(samples.document(content=content))
        await bucket.store.put_parsed("refill", content, PARSED)
    (key, *_) = await bucket.keys()
    await bucket.client.delete_object(Bucket=bucket.name, Key=key)
    assert len(await bucket.versions()) == 9
    await bucket.store.delete("refill")
    assert await bucket.versions() == []


@pytest.mark.parametrize("wrong", ["no checksum", "another checksum", "another id"])
async def test_an_object_that_is_not_what_its_key_says_is_not_believed(bucket: Bucket, wrong: str) -> None:
    await bucket.store.put(samples.document())
    (key,) = await bucket.keys()
    changed = samples.document("other" if wrong == "another id" else "refill", content="Written by nobody.")
    sums: dict[str, str] = {"ChecksumAlgorithm": "CRC32" if wrong == "no checksum" else "SHA256"}
    if wrong == "another checksum":
        sums["ChecksumSHA256"] = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    body = changed.model_dump_json().encode()
    await bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body, **sums)
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


async def test_versions_that_may_not_be_deleted_are_an_error(bucket: Bucket) -> None:
    await bucket.store.put(samples.document())
    body = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    await bucket.way.break_by(Fault(Kind.ANSWER, of=_is("POST"), answer=answer))
    with pytest.raises(DependencyError, match="AccessDenied"):
        await bucket.store.delete("refill")


FACTS = orjson.dumps({"schema_version": 1, "model": "tiny", "digest": "d", "max_input_tokens": 9})
TOKENIZER = b'{"model": {}}'


@pytest.fixture
async def s3(aws_server_url: str) -> AsyncIterator[Any]:
    async with open_client("s3", region=REGION, endpoint_url=aws_server_url) as client:
        yield client


async def put(s3: Any, bucket: str, **objects: bytes) -> None:
    await s3.create_bucket(Bucket=bucket)
    for name, content in objects.items():
        await s3.put_object(Bucket=bucket, Key=f"models/v7/tiny/{name}.json", Body=content)


def copied(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


async def test_a_models_files_are_copied_into_its_folder(s3: Any, tmp_path: Path) -> None:
    await put(s3, "artifacts-whole", artifact=FACTS, tokenizer=TOKENIZER)
    await download_artifacts(s3, prefix="s3://artifacts-whole/models/v7/", models={"tiny"}, into=tmp_path)
    assert read_model_facts(tmp_path, "tiny").max_input_tokens == 9
    assert copied(tmp_path) == ["artifact.json", "tokenizer.json"]


async def test_an_artifact_that_lacks_a_file_is_named_and_leaves_no_facts(s3: Any, tmp_path: Path) -> None:
    await put(s3, "artifacts-half", artifact=FACTS)
    with pytest.raises(ConfigurationError, match=r"artifacts-half/models/v7/tiny/tokenizer\.json"):
        await download_artifacts(s3, prefix="s3://artifacts-half/models/v7", models={"tiny"}, into=tmp_path)
    assert copied(tmp_path) == []


async def download_from(script: Any, into: Path) -> None:
    async with (
        scripted_http(script) as server,
        open_client("s3", region=REGION, endpoint_url=server.url) as client,
    ):
        await download_artifacts(client, prefix="s3://bucket/", models={"tiny"}, into=into)


async def test_bytes_that_are_not_the_objects_are_refused(tmp_path: Path) -> None:
    async def flips_a_bit(exchange: Exchange) -> None:
        etag = hashlib.md5(TOKENIZER, usedforsecurity=False).hexdigest()
        await exchange.respond(200, TOKENIZER.replace(b"model", b"nodel"), ETag=f'"{etag}"')

    with pytest.raises(DependencyError, match="damaged"):
        await download_from(flips_a_bit, tmp_path)
    assert copied(tmp_path) == []


async def test_an_object_over_the_bound_is_not_read(tmp_path: Path) -> None:
    async def is_huge(exchange: Exchange) -> None:
        await exchange.write(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 99999999999\r\n\r\nstart')

    with pytest.raises(ConfigurationError, match="99999999999 bytes"):
        await download_from(is_huge, tmp_path)


TENANT_FILE = b'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'


async def bring(s3: Any, bucket: str, content: bytes, into: Path) -> str:
    await s3.create_bucket(Bucket=bucket)
    await s3.put_object(Bucket=bucket, Key="3fa9.toml", Body=content)
    return await download_tenant_file(s3, uri=f"s3://{bucket}/3fa9.toml", into=into)


async def test_a_tenant_file_stands_under_its_tenants_name(s3: Any, tmp_path: Path) -> None:
    name = await bring(s3, "tenant-file-whole", TENANT_FILE, tmp_path / "tenants")

    assert load_tenants(tmp_path / "tenants").one(name).display_name == "Clinic"


@pytest.mark.parametrize("name", ["../../etc/clinic", "", "CLINIC"])
async def test_a_tenant_file_is_never_written_elsewhere(s3: Any, tmp_path: Path, name: str) -> None:
    content = f'schema_version = 1\nname = "{name}"\n'.encode()

    with pytest.raises(ConfigurationError, match="is no tenant file"):
        await bring(s3, f"tenant-file-{len(name)}", content, tmp_path / "tenants")
    assert not (tmp_path / "tenants").exists()
