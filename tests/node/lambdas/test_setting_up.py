"""Custom resources: what they create, and that CloudFormation gets a reply for every outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from assistant.process.aws import kms_link_secret, open_client
from assistant.process.settings import LinkSecretSettings, SchemaSettings
from assistant.service.function import ResourceRequest, reply_to_cloudformation
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.tenant.deployed_names import (
    LINK_SECRET_RESOURCE,
    LIVE_READS_SECRET_PURPOSE,
    SEARCH_ACCESS_RESOURCE,
    SEARCH_SCHEMA_RESOURCE,
)
from tests.node.lambdas.conftest import MODEL, Deployment
from tests.stage.aws_server import REGION, create_key
from tests.stage.lambda_events import Context, custom_resource
from tests.stage.opensearch_node import delete_index, search_domain
from tests.stage.servers import Exchange, ScriptedServer, scripted_http


@dataclass
class CloudFormation:
    """The response URL: remembers the replies; the first ``fails`` requests fail."""

    server: ScriptedServer
    fails: int = 0
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])

    @property
    def url(self) -> str:
        return f"{self.server.url}/arn%3Aaws%3Acloudformation/stack%7CMyResource?X-Amz-Signature=a%2Bb"

    async def take(self, exchange: Exchange) -> None:
        if self.fails:
            self.fails -= 1
            await exchange.respond(503, b"")
            return
        self.headers.append(exchange.headers)
        self.told.append(orjson.loads(exchange.body))
        await exchange.respond(200, b"")


@pytest.fixture
async def cloudformation() -> AsyncIterator[CloudFormation]:
    held: list[CloudFormation] = []

    async def script(exchange: Exchange) -> None:
        await held[0].take(exchange)

    async with scripted_http(script) as server:
        held.append(CloudFormation(server))
        yield held[0]


def request(cloudformation: CloudFormation, kind: str = "Custom::Any", **given: Any) -> dict[str, Any]:
    return custom_resource(kind, given.pop("request", "Create"), response_url=cloudformation.url, **given)


async def test_a_created_resource_is_reported_with_its_id_to_the_signed_url_unchanged(
    cloudformation: CloudFormation,
) -> None:
    async def make(_asked: ResourceRequest) -> str:
        return "made-1"

    await reply_to_cloudformation(make, request(cloudformation), Context())

    (told,) = cloudformation.told
    assert (told["Status"], told["PhysicalResourceId"]) == ("SUCCESS", "made-1")
    assert {told["RequestId"], told["LogicalResourceId"]} == {"request-1", "MyResource"}
    (exchange,) = cloudformation.server.exchanges
    assert f"{cloudformation.server.url}{exchange.target}" == cloudformation.url
    assert "content-type" not in exchange.headers


async def test_a_failure_is_reported_without_its_message(cloudformation: CloudFormation) -> None:
    async def fail(_asked: ResourceRequest) -> str:
        raise ZeroDivisionError("Mrs Doe")

    await reply_to_cloudformation(fail, request(cloudformation), Context())

    (told,) = cloudformation.told
    assert told["Status"] == "FAILED"
    assert "ZeroDivisionError" in told["Reason"]
    assert "Doe" not in told["Reason"]


async def test_a_hanging_request_gets_a_reply_within_the_functions_time(
    cloudformation: CloudFormation,
) -> None:
    async def hang(_asked: ResourceRequest) -> str:
        await asyncio.Event().wait()
        return ""

    await reply_to_cloudformation(
        hang, request(cloudformation, physical_id="made-0"), Context(remaining_ms=20_050)
    )

    (told,) = cloudformation.told
    assert (told["Status"], told["PhysicalResourceId"]) == ("FAILED", "made-0")


async def test_a_reply_is_retried_until_it_is_accepted(cloudformation: CloudFormation) -> None:
    async def make(_asked: ResourceRequest) -> str:
        return "made-1"

    cloudformation.fails = 2
    await reply_to_cloudformation(make, request(cloudformation), Context())

    assert len(cloudformation.told) == 1


def schema_settings(deployment: Deployment, *, alias: str, opensearch_url: str) -> dict[str, Any]:
    return {
        "region": REGION,
        "aws_endpoint_url": deployment.aws_url,
        "search": "opensearch",
        "opensearch_url": opensearch_url,
        "opensearch_index": alias,
        "opensearch_auth": "none",
        "model_artifacts_s3": f"s3://{deployment.named('artifacts')}/callers/",
        "embedding_model": MODEL,
        "dimensions": 8,
        "shards": 1,
        "replicas": 0,
    }


@pytest.fixture
async def domain(deployment: Deployment) -> AsyncIterator[ScriptedServer]:
    async with search_domain(deployment.opensearch_url) as server:
        yield server


def asked_of_security(domain: ScriptedServer) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (method, resource, body) of each request to the security plugin's API."""
    api = "/_plugins/_security/api/"
    return [
        (each.method, each.target.removeprefix(api), orjson.loads(each.body or b"{}"))
        for each in domain.exchanges
        if each.target.startswith(api)
    ]


async def test_the_schema_is_applied_by_the_models_own_facts_and_audited(
    deployment: Deployment, domain: ScriptedServer, cloudformation: CloudFormation
) -> None:
    alias = deployment.named("applied")
    settings = schema_settings(deployment, alias=alias, opensearch_url=domain.url)
    apply = deployment.function("apply_search_schema", SchemaSettings, settings)
    for _ in range(2):
        await apply(request(cloudformation, SEARCH_SCHEMA_RESOURCE, Stamp="a"))

    assert [told["Status"] for told in cloudformation.told] == ["SUCCESS", "SUCCESS"]
    async with open_opensearch(url=deployment.opensearch_url, auth="none") as client:
        found = await call(client, f"GET /{alias}/_mapping", timeout_s=30)
        await delete_index(client, alias=alias)
    (index,) = found.values()
    assert index["mappings"]["_meta"]["model_digest"] == "d1"
    (_, _, audit), _ = [each for each in asked_of_security(domain) if each[1] == "audit/config"]
    assert audit["enabled"]
    assert not audit["audit"]["log_request_body"]


async def test_a_deleted_schema_leaves_the_index(
    deployment: Deployment, domain: ScriptedServer, cloudformation: CloudFormation
) -> None:
    alias = deployment.named("passages")
    settings = schema_settings(deployment, alias=alias, opensearch_url=domain.url)
    apply = deployment.function("apply_search_schema", SchemaSettings, settings)

    await apply(request(cloudformation, SEARCH_SCHEMA_RESOURCE, request="Delete", physical_id=alias))

    assert cloudformation.told[0]["Status"] == "SUCCESS"
    assert await deployment.found() == []
    assert domain.exchanges == []


@pytest.mark.parametrize(("access", "may_write"), [("read", False), ("write", True)])
async def test_a_role_gets_access_to_this_index_only(
    deployment: Deployment,
    domain: ScriptedServer,
    cloudformation: CloudFormation,
    access: str,
    may_write: bool,
) -> None:
    settings = schema_settings(deployment, alias="clinic-passages", opensearch_url=domain.url)
    apply = deployment.function("apply_search_schema", SchemaSettings, settings)

    await apply(
        request(cloudformation, SEARCH_ACCESS_RESOURCE, Access=access, RoleArns=["arn:aws:iam::1:role/x"])
    )

    name = "assistant-clinic-Ingestion-MyResource"
    assert cloudformation.told[0]["PhysicalResourceId"] == name
    (role, mapping) = asked_of_security(domain)
    assert (role[:2], mapping[:2]) == (("PUT", f"roles/{name}"), ("PUT", f"rolesmapping/{name}"))
    (permission,) = role[2]["index_permissions"]
    assert permission["index_patterns"] == ["clinic-passages", "clinic-passages-v*"]
    assert any("write" in action for action in permission["allowed_actions"]) == may_write
    assert mapping[2]["backend_roles"] == ["arn:aws:iam::1:role/x"]


async def test_a_deleted_access_is_removed(
    deployment: Deployment, domain: ScriptedServer, cloudformation: CloudFormation
) -> None:
    settings = schema_settings(deployment, alias="clinic-passages", opensearch_url=domain.url)
    apply = deployment.function("apply_search_schema", SchemaSettings, settings)

    await apply(request(cloudformation, SEARCH_ACCESS_RESOURCE, request="Delete", physical_id="any"))

    assert cloudformation.told[0]["Status"] == "SUCCESS"
    assert [each[0] for each in asked_of_security(domain)] == ["DELETE", "DELETE"]


async def test_the_key_of_links_is_made_once_and_outlives_its_resource(
    deployment: Deployment, cloudformation: CloudFormation
) -> None:
    parameter = f"/{deployment.prefix}/document-links"
    async with open_client("kms", region=REGION, endpoint_url=deployment.aws_url) as kms:
        key_id = await create_key(kms, alias=deployment.named("key"))
        create = deployment.function(
            "create_link_secret",
            LinkSecretSettings,
            {
                "region": REGION,
                "aws_endpoint_url": deployment.aws_url,
                "tenant": "clinic",
                "parameter": parameter,
                "live_reads_parameter": f"/{deployment.prefix}/live-read-pseudonyms",
                "key_id": key_id,
            },
        )
        secrets: list[bytes] = []
        for kind in ("Create", "Update", "Delete"):
            await create(request(cloudformation, LINK_SECRET_RESOURCE, request=kind))
            ssm = deployment.clients["ssm"]
            secrets.append(await kms_link_secret(ssm=ssm, kms=kms, name=parameter, tenant="clinic"))
        pseudonyms = await kms_link_secret(
            ssm=ssm,
            kms=kms,
            name=f"/{deployment.prefix}/live-read-pseudonyms",
            tenant="clinic",
            purpose=LIVE_READS_SECRET_PURPOSE,
        )

    assert [told["Status"] for told in cloudformation.told] == ["SUCCESS"] * 3
    assert len(set(secrets)) == 1
    assert pseudonyms not in secrets
    assert {told["PhysicalResourceId"] for told in cloudformation.told} == {parameter}
