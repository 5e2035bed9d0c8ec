"""Two tenants on one account: each finds its own, and nothing of the other by any of its names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.documents import ParsedDocument
from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.aws import ParameterKeySource, create_link_secret, kms_link_secret, open_client
from assistant.stores.documents import StoredDocuments
from assistant.stores.s3 import S3Blobs
from tests.contracts import samples
from tests.contracts.twins import tenant_name
from tests.stage.aws_server import REGION, create_key, put_parameter
from tests.stage.emulated_aws import create_documents_bucket

PARSED = ParsedDocument(text="Only theirs.", sections=())
HOSTILE_IDS = ["..", "..\\..", "%2e%2e%2frefill", "refill\\..", "*", "{owner}", "refill%00"]


@dataclass
class Account:
    """One account with clients that any tenant could use; what keeps tenants apart is what they name."""

    s3: Any
    sqs: Any
    ssm: Any
    kms: Any
    name: str


@pytest.fixture
async def account(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with (
        open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3,
        open_client("sqs", region=REGION, endpoint_url=aws_server_url) as sqs,
        open_client("ssm", region=REGION, endpoint_url=aws_server_url) as ssm,
        open_client("kms", region=REGION, endpoint_url=aws_server_url) as kms,
    ):
        yield Account(s3, sqs, ssm, kms, tenant_name(tmp_path))


async def documents_of(account: Account) -> tuple[StoredDocuments, StoredDocuments]:
    """The owner's store and a neighbour's in the same bucket, whose prefix begins as the owner's does."""
    await create_documents_bucket(account.s3, bucket=account.name)
    prefixes = ("clinic/", "clinic-2/")
    owner, neighbour = [
        StoredDocuments(S3Blobs(account.s3, bucket=account.name, prefix=each, checked=True))
        for each in prefixes
    ]
    return owner, neighbour


async def test_a_document_is_its_owner_s_alone(account: Account) -> None:
    owner, neighbour = await documents_of(account)
    await owner.put(samples.document())
    await owner.put_parsed("refill", "hash", PARSED)
    assert await owner.get("refill") == samples.document()
    assert await neighbour.get("refill") is None
    assert await neighbour.get_parsed("refill", "hash") is None
    await neighbour.delete("refill")
    assert await owner.get("refill") == samples.document()
    assert await owner.get_parsed("refill", "hash") == PARSED


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
async def test_no_id_reaches_into_another_s_prefix(account: Account, hostile: str) -> None:
    owner, neighbour = await documents_of(account)
    await owner.put(samples.document())
    for document_id in (hostile, f"{hostile}\\clinic\\refill", f"clinic{hostile}refill"):
        await neighbour.put(samples.document(document_id, content="Theirs."))
        await neighbour.delete(document_id)
        assert await neighbour.get(document_id) is None
    assert await owner.get("refill") == samples.document()
    found = await account.s3.list_object_versions(Bucket=account.name)
    assert all(version["Key"].startswith("clinic/") for version in found["Versions"])


async def test_the_secret_of_links_is_its_owner_s_alone(account: Account) -> None:
    key_id = await create_key(account.kms, alias=account.name)
    for tenant in ("clinic", "pharmacy"):
        await create_link_secret(
            ssm=account.ssm, kms=account.kms, name=_secret(account, tenant), tenant=tenant, key_id=key_id
        )
    ours = await kms_link_secret(
        ssm=account.ssm, kms=account.kms, name=_secret(account, "clinic"), tenant="clinic"
    )
    theirs = await kms_link_secret(
        ssm=account.ssm, kms=account.kms, name=_secret(account, "pharmacy"), tenant="pharmacy"
    )
    assert ours != theirs
    for name, tenant in (("clinic", "pharmacy"), ("pharmacy", "clinic"), ("clinic", "")):
        with pytest.raises(ConfigurationError):
            await kms_link_secret(
                ssm=account.ssm, kms=account.kms, name=_secret(account, name), tenant=tenant
            )


def _secret(account: Account, tenant: str) -> str:
    return f"/{account.name}/{tenant}/document-links"


async def test_a_parameter_of_keys_is_named_whole(account: Account) -> None:
    await put_parameter(account.ssm, name=f"/{account.name}/clinic/keys", value="{}")
    assert await ParameterKeySource(account.ssm, name=f"/{account.name}/clinic/keys").fetch() == b"{}"
    for other in ("clinic", "clinic/key", "clinic/keys2", "pharmacy/keys"):
        with pytest.raises(DependencyError, match="ParameterNotFound"):
            await ParameterKeySource(account.ssm, name=f"/{account.name}/{other}").fetch()
