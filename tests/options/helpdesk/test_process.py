"""The desk's own process over TLS, with KMS, DynamoDB and SSM by an emulator."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import httpx
import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from assistant.options.helpdesk.settings import HelpdeskSettings
from assistant.process.settings import inherited_environment
from tests.fakes.aws_server import EMULATED, REGION
from tests.fakes.processes import process
from tests.fakes.tls_front import Authority
from tests.fakes.tokens import AUDIENCE, EC_KEY, ISSUER, claims, token

COMMAND = [sys.executable, "-m", "assistant.options.helpdesk"]


@dataclass
class Desk:
    client: httpx.AsyncClient
    public: ECKey
    """Of the key that signs contexts."""

    def bearer(self, **changes: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {token(claims(datetime.now(UTC), **changes))}"}


@pytest.fixture
async def desk(aws_server_url: str) -> AsyncIterator[Desk]:
    made, authority = _resources(aws_server_url), Authority.make()
    pem = authority.issue()
    certificate, head, key = pem.partition("-----BEGIN PRIVATE")
    values = {
        "host": "127.0.0.1",
        "port": 0,
        "tenant": "clinic",
        "service_url": "https://assistant.example",
        "page_url": "https://localhost",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "care_issuer": "https://care.example",
        "tls_certificate": certificate,
        "tls_key": head + key,
        "system_token": "of-the-assistant",
        "aws_endpoint_url": aws_server_url,
        "certificate_authority": authority.pem,
        **made,
    }
    public = values.pop("public")
    environment = HelpdeskSettings.variables(values)
    environment |= {"AWS_ACCESS_KEY_ID": EMULATED, "AWS_SECRET_ACCESS_KEY": "x"}
    async with process("options.helpdesk", environment) as running:
        trusted = ssl.create_default_context(cadata=authority.pem)
        url = f"https://localhost:{running.ready['port']}"
        async with httpx.AsyncClient(base_url=url, verify=trusted, trust_env=False, timeout=20) as client:
            yield Desk(client, public)


def _resources(url: str) -> dict[str, Any]:
    """Make key, table and the issuer's keys."""
    how = {"region_name": REGION, "endpoint_url": url}
    how |= {"aws_access_key_id": EMULATED, "aws_secret_access_key": "x"}
    name = f"helpdesk-{uuid.uuid4().hex[:8]}"
    kms, ssm, dynamodb = (boto3.client(service, **how) for service in ("kms", "ssm", "dynamodb"))  # pyright: ignore
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    public = ECKey.import_key(kms.get_public_key(KeyId=key)["PublicKey"])
    keys = {"keys": [EC_KEY.as_dict(private=False)]}
    ssm.put_parameter(Name=f"/{name}/jwks", Type="String", Value=orjson.dumps(keys).decode())
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )
    care_keys = {"keys": [public.as_dict(private=False) | {"kid": "helpdesk"}]}
    ssm.put_parameter(Name=f"/{name}/care-jwks", Type="String", Value=orjson.dumps(care_keys).decode())
    parameters = {"jwks_parameter": f"/{name}/jwks", "care_jwks_parameter": f"/{name}/care-jwks"}
    return {"signing_key_id": key, "table": name, "public": public, **parameters}


async def test_an_agent_who_signed_in_reads_a_chat_whose_context_a_reply_brings_back(desk: Desk) -> None:
    client, bearer = desk.client, desk.bearer()
    assert (await client.get("/healthz")).status_code == 204
    assert (await client.get("/helpdesk/config")).json()["issuer"] == ISSUER
    for method, closed in (
        ("GET", "/patient"),
        ("POST", "/helpdesk/chats"),
        ("GET", "/openapi.json"),
        ("PUT", "/control/fault"),
        ("GET", "/control/requests"),
    ):
        assert (await client.request(method, closed, json={"text": "hi"})).status_code == 404, closed
    chats: list[Any] = []
    for _ in range(100):  # a simulated patient writes once a desk is open
        if chats := (await client.get("/helpdesk/desk", headers=bearer)).json()["chats"]:
            break
        await asyncio.sleep(0.1)
    chat_id, said = chats[0]["chat_id"], chats[0]["messages"][0]["text"]
    path = f"/helpdesk/desk/{chat_id}/context"
    context = (await client.post(path, headers=bearer)).json()["context"]
    signed = jwt.decode(context, desk.public, algorithms=["ES256"])
    assert signed.header["kid"] == "helpdesk"
    assert (signed.claims["agent"], signed.claims["tenant"], signed.claims["iss"]) == (
        "ann",
        "clinic",
        "https://care.example",
    )
    body = {"send_id": "s1", "answer_id": "a", "conversation_id": "a", "agent": "ann", "context": context}
    body |= {"at": datetime.now(UTC).isoformat(), "text": "It comes today."}
    for secret, status in (("of-nobody", 401), ("of-the-assistant", 204)):
        headers = {"authorization": f"Bearer {secret}"}
        assert (await client.post("/v1/replies", json=body, headers=headers)).status_code == status
    (chat,) = (await client.get("/helpdesk/desk", headers=bearer)).json()["chats"]
    assert [one["text"] for one in chat["messages"]] == [said, "It comes today."]


@pytest.mark.parametrize(
    "changes", [None, {"tenant": "pharmacy"}, {"iss": "https://evil.example"}, {"exp": 1}, {"aud": "another"}]
)
async def test_nobody_else_sees_the_desk(desk: Desk, changes: dict[str, Any] | None) -> None:
    headers = {} if changes is None else desk.bearer(**changes)
    assert (await desk.client.get("/helpdesk/desk", headers=headers)).status_code == 401


def test_it_ends_at_once_with_what_is_missing() -> None:
    given = {"tenant": "sandbox", "service_url": "https://a.example", "page_url": "http://d.example"}
    given["care_issuer"] = "https://care.example"
    environment = inherited_environment() | HelpdeskSettings.variables(given)
    ended = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "starts outside the demo with an issuer and TLS alone" in ended.stderr
    assert "ASSISTANT_HELPDESK_TLS_KEY" in ended.stderr
