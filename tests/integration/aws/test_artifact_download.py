"""Model artifacts come from S3 whole, checked and bounded, or the process says what is wrong with which."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.models.artifacts import read_model_facts
from assistant.models.opened import download_artifacts
from assistant.process.aws import open_client
from assistant.stores.s3 import download_tenant_file
from assistant.tenant.tenant import load_tenants
from tests.fakes.aws_server import REGION
from tests.fakes.scripted_http import Exchange, scripted_http

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


async def test_a_bucket_that_is_not_there_is_named(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"s3://nowhere/tiny/.*NoSuchBucket"):
        await download_artifacts(s3, prefix="s3://nowhere/", models={"tiny"}, into=tmp_path)


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
