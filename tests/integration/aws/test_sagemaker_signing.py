"""Who signs the calls of the SageMaker Runtime, and by which clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import get_session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from assistant.models.sagemaker import InvocationError, SageMakerRuntime
from tests.fakes.scripted_http import Exchange, scripted_http
from tests.integration.aws.conftest import Runtime


async def well(exchange: Exchange) -> None:
    await exchange.respond(200, b"[[1.0]]")


async def test_the_signature_covers_what_arrives(runtime: Runtime) -> None:
    async with runtime(well) as (client, server):
        await client.invoke("a b/c", body=b"{}", attributes="purpose=question")

    (exchange,) = server.exchanges
    authorization = exchange.headers["authorization"]
    signed = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    url = f"{server.url}{exchange.target}"
    again = AWSRequest("POST", url, headers={name: exchange.headers[name] for name in signed})
    again.context["timestamp"] = exchange.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDLOCAL", "x"), "sagemaker", "us-east-1")
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert exchange.target == "/endpoints/a%20b%2Fc/invocations"
    assert {"content-type", "host", "x-amz-content-sha256", "x-amzn-sagemaker-custom-attributes"} <= set(
        signed
    )
    assert exchange.headers["x-amz-content-sha256"] == sha256(exchange.body).hexdigest()
    assert authorization.endswith(f"Signature={expected}")


async def test_a_signature_that_is_wrong_at_the_right_time_is_refused(runtime: Runtime) -> None:
    async def script(exchange: Exchange) -> None:
        date = format_datetime(datetime.now(UTC), usegmt=True)
        await exchange.respond(403, b"{}", x_amzn_ErrorType="InvalidSignatureException", Date=date)

    async with runtime(script) as (client, server):
        with pytest.raises(InvocationError, match="InvalidSignatureException"):
            await client.invoke("embedding", body=b"{}")

    assert len(server.exchanges) == 1


async def test_credentials_near_their_end_are_refreshed() -> None:
    """A task role's credentials last for hours: botocore fetches the next ones, and they sign."""

    async def fetch() -> dict[str, str]:
        return _credentials("FRESH", valid_for=timedelta(hours=6))

    ending = AioRefreshableCredentials.create_from_metadata(
        _credentials("ENDING", valid_for=timedelta(minutes=1)), refresh_using=fetch, method="test"
    )
    async with _runtime_with(ending) as (client, server):
        await client.invoke("embedding", body=b"{}")

    (exchange,) = server.exchanges
    assert "Credential=FRESH/" in exchange.headers["authorization"]
    assert exchange.headers["x-amz-security-token"] == "token of FRESH"


async def test_unavailable_credentials_are_an_error() -> None:
    async def fetch() -> dict[str, str]:
        return {"access_key": "no other field"}

    ended = AioRefreshableCredentials.create_from_metadata(
        _credentials("ENDED", valid_for=timedelta(minutes=-1)), refresh_using=fetch, method="test"
    )
    async with _runtime_with(ended) as (client, server):
        with pytest.raises(InvocationError, match="CredentialRetrievalError"):
            await client.invoke("embedding", body=b"{}")

    assert server.exchanges == []


def _credentials(name: str, *, valid_for: timedelta) -> dict[str, str]:
    expiry = (datetime.now(UTC) + valid_for).isoformat()
    return {"access_key": name, "secret_key": "s", "token": f"token of {name}", "expiry_time": expiry}


@asynccontextmanager
async def _runtime_with(credentials: Any) -> AsyncGenerator[tuple[SageMakerRuntime, Any]]:
    session: Any = get_session()
    session._credentials = credentials
    async with scripted_http(well) as server:
        opening = session.create_client("sagemaker-runtime", region_name="us-east-1", endpoint_url=server.url)
        async with opening as client:
            runtime = SageMakerRuntime(client)
            try:
                yield runtime, server
            finally:
                await runtime.close()
