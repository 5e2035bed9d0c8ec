"""Secrets of live systems from Secrets Manager, and signed requests, as AWS checks them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from assistant.domain.errors import ConfigurationError, DependencyError
from assistant.process.aws import GetSigner, StoredSecret, open_client
from tests.fakes.aws_server import REGION
from tests.options.live.live_scene import live_scene


@pytest.fixture
async def secrets(aws_server_url: str) -> AsyncIterator[Any]:
    async with open_client("secretsmanager", region=REGION, endpoint_url=aws_server_url) as client:
        yield client


async def test_a_secret_is_read_in_its_newest_version(secrets: Any) -> None:
    name = "assistant/pharmacy/reach/orders"
    await secrets.create_secret(Name=name, SecretString="old\n")
    assert await StoredSecret(secrets, name=name)() == b"old"
    await secrets.put_secret_value(SecretId=name, SecretString="new")
    assert await StoredSecret(secrets, name=name)() == b"new"


async def test_the_age_of_a_secret_counts_from_the_value_that_was_read(secrets: Any) -> None:
    await secrets.create_secret(Name="assistant/pharmacy/reach/aged", SecretString="token")
    stored = StoredSecret(secrets, name="assistant/pharmacy/reach/aged")
    assert stored.put_at is None
    await stored()
    assert stored.put_at is not None
    assert abs(datetime.now(UTC) - stored.put_at) < timedelta(minutes=1)


async def test_a_missing_or_empty_secret_names_what_to_do(secrets: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no/such cannot be read \(ResourceNotFoundException\)"):
        await StoredSecret(secrets, name="no/such")()
    await secrets.create_secret(Name="empty", SecretString="  ")
    with pytest.raises(ConfigurationError, match="empty is empty"):
        await StoredSecret(secrets, name="empty")()


async def test_a_service_that_does_not_respond_is_a_dependency_error() -> None:
    async with open_client("secretsmanager", region=REGION, endpoint_url="http://127.0.0.1:9") as client:
        with pytest.raises(DependencyError):
            await StoredSecret(client, name="any")()


async def test_a_live_read_is_signed_so_that_the_system_can_verify_it(secrets: Any) -> None:
    sign = GetSigner(secrets, service="vpc-lattice-svcs", region=REGION)
    async with live_scene(auth="sigv4", sign=sign) as scene:
        await scene.fill()
        (exchange,) = scene.server.exchanges
        sent = exchange.headers
        key = await secrets._request_signer._credentials.get_frozen_credentials()
        again = AWSRequest(
            "GET",
            f"{scene.server.url}{exchange.target}",
            headers={
                name: sent[name.lower()]
                for name in ("Accept", "Accept-Encoding", "Host", "X-Amz-Content-SHA256")
            },
        )
        again.context["timestamp"] = sent["x-amz-date"]
        signer = SigV4Auth(
            ReadOnlyCredentials(key.access_key, key.secret_key, key.token), "vpc-lattice-svcs", REGION
        )
        again.headers["X-Amz-Date"] = sent["x-amz-date"]
        canonical = signer.canonical_request(again)
        expected = signer.signature(signer.string_to_sign(again, canonical), again)
        assert sent["authorization"].endswith(f"Signature={expected}")
        assert sent["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "vpc-lattice-svcs/aws4_request" in sent["authorization"]
