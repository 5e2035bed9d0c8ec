"""Which endpoint of SageMaker is asked, and who signs, by the URL that the settings give or leave out."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.paths import is_on_this_machine
from assistant.models.opened import open_model_clients
from assistant.models.sagemaker import SageMakerEmbedder
from assistant.process.aws import open_client
from assistant.process.settings import WorkerSettings
from tests.fakes.scripted_http import Exchange, scripted_http

AWS = "https://runtime.sagemaker.eu-west-3.amazonaws.com"
NAMED = "http://gateway.internal:8702"
HERE = "http://127.0.0.1:8702"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's, or the task's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


async def signed(url: str | None) -> tuple[str, str]:
    """Return where a call would go, and the id of the key that would sign it; nothing is sent."""
    async with open_client("sagemaker-runtime", region="eu-west-3", endpoint_url=url) as client:
        call = await client.generate_presigned_url("invoke_endpoint", {"EndpointName": "e", "Body": b""})
    parts = urlsplit(call)
    return f"{parts.scheme}://{parts.netloc}", parse_qs(parts.query)["X-Amz-Credential"][0].split("/")[0]


@pytest.mark.parametrize(("url", "goes_to"), [(None, AWS), (NAMED, NAMED)], ids=["AWS's own", "another"])
@pytest.mark.usefixtures("own_credentials")
async def test_own_credentials_sign_what_leaves_this_machine(url: str | None, goes_to: str) -> None:
    assert await signed(url) == (goes_to, "AKIAENVIRONMENT")


async def test_an_emulator_gets_a_fixed_key_where_there_are_no_credentials() -> None:
    assert await signed(NAMED) == (NAMED, "local")


@pytest.mark.loopback
@pytest.mark.usefixtures("own_credentials")
async def test_own_credentials_are_not_shown_to_the_gateway_on_this_machine() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, b"[[1.0, 0.0]]", Content_Type="application/json")

    async with scripted_http(answer) as gateway:
        settings = WorkerSettings(sagemaker_endpoint_url=gateway.url)
        async with open_model_clients(settings) as clients:
            embedder = SageMakerEmbedder(
                await clients.sagemaker(), endpoint="embedding", dimensions=2, purpose="passage"
            )
            await embedder.embed(["wait"], deadline=Deadline.after(60, clock=SystemClock()))
    assert "Credential=local/" in gateway.exchanges[0].headers["authorization"]


@pytest.mark.parametrize(
    ("url", "here"),
    [(HERE, True), ("http://localhost:1", True), ("http://[::1]:1", True), (NAMED, False), (AWS, False)],
)
def test_only_loopback_is_this_machine(url: str, here: bool) -> None:
    assert is_on_this_machine(url) is here


async def test_all_tenants_share_one_client_a_service() -> None:
    async with open_model_clients(
        WorkerSettings(aws_endpoint_url=HERE, sagemaker_endpoint_url=HERE)
    ) as clients:
        assert await clients.aws("sqs") is await clients.aws("sqs")
        assert await clients.sagemaker() is await clients.sagemaker()
