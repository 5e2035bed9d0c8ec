"""Which endpoint of SageMaker is asked, and who signs, by the URL that the settings give or leave out."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from assistant.bootstrap import open_clients
from assistant.settings import WorkerSettings

AWS = "https://runtime.sagemaker.eu-west-3.amazonaws.com"
NAMED = "http://gateway.internal:8702"
HERE = "http://127.0.0.1:8702"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


async def signed(url: str | None) -> tuple[str, str]:
    """Return where a call would go, and the id of the key that would sign it; nothing is sent."""
    settings = WorkerSettings(sagemaker_endpoint_url=url, region="eu-west-3")
    async with open_clients(settings) as clients:
        client: Any = await clients.sagemaker()
        call = await client.generate_presigned_url("invoke_endpoint", {"EndpointName": "e", "Body": b""})
    parts = urlsplit(call)
    return f"{parts.scheme}://{parts.netloc}", parse_qs(parts.query)["X-Amz-Credential"][0].split("/")[0]


@pytest.mark.parametrize(
    ("url", "goes_to", "signer"),
    [(None, AWS, "AKIAENVIRONMENT"), (NAMED, NAMED, "AKIAENVIRONMENT"), (HERE, HERE, "local")],
    ids=["AWS's own", "another machine's", "this machine's"],
)
async def test_credentials_of_the_environment_sign_what_leaves_this_machine(
    url: str | None, goes_to: str, signer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert await signed(url) == (goes_to, signer)


@pytest.mark.parametrize("url", [NAMED, HERE, "http://localhost:8702", "http://[::1]:8702"])
async def test_an_emulator_gets_the_fixed_key_where_there_is_no_other(url: str) -> None:
    assert await signed(url) == (url, "local")


async def test_all_tenants_share_one_client_a_service() -> None:
    async with open_clients(WorkerSettings(aws_endpoint_url=HERE, sagemaker_endpoint_url=HERE)) as clients:
        assert await clients.aws("sqs") is await clients.aws("sqs")
        assert await clients.sagemaker() is await clients.sagemaker()
