"""Calls to a managed domain are signed with credentials of AWS's default chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from tests.contracts.samples import query, soon
from tests.fakes.scripted_http import Exchange, scripted_http
from tests.integration.aws.opensearch_socket import ALIAS, SCHEMA, respond


@pytest.fixture(autouse=True)
def nobody_s_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of whoever runs the test, and no look for any on the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


async def answer(exchange: Exchange) -> None:
    await respond(exchange, {"timed_out": False, "hits": {"hits": []}})


async def test_a_call_carries_a_signature_of_its_body_for_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    async with (
        scripted_http(answer) as server,
        open_opensearch(url=server.url, auth="sigv4", region="eu-central-1") as client,
    ):
        await OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA).search(query(), deadline=soon())
    headers = server.exchanges[0].headers
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDTEST/")
    assert "/eu-central-1/es/aws4_request" in headers["authorization"]
    assert "x-amz-content-sha256" in headers["authorization"]
    assert headers["x-amz-security-token"] == "session"


async def test_without_credentials_the_client_does_not_open() -> None:
    with pytest.raises(ConfigurationError, match="finds no credentials"):
        async with open_opensearch(url="http://127.0.0.1:9", auth="sigv4", region="eu-central-1"):
            pass


async def test_without_signing_no_credentials_are_looked_for() -> None:
    async with scripted_http(answer) as server, open_opensearch(url=server.url, auth="none") as client:
        await OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA).search(query(), deadline=soon())
    assert "authorization" not in server.exchanges[0].headers
