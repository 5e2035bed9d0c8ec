"""Which endpoint of SageMaker is asked, and who signs, by the URL that the settings give or leave out."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

import pytest

from assistant.domain.clock import Deadline, RetryBudget, SystemClock, retry_overload
from assistant.domain.errors import EmbeddingUnavailableError, OverloadedError
from assistant.domain.paths import is_on_this_machine
from assistant.models.opened import open_model_clients
from assistant.models.sagemaker import SageMakerEmbedder
from assistant.process.aws import open_client
from assistant.process.settings import WorkerSettings
from tests.stage.servers import Exchange, scripted_http
from tests.stage.tenant_stores import SteppedClock

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


class Calls:
    """Fails a number of times, then answers; notes the waits between."""

    def __init__(self, *, failures: int, error: Exception | None = None) -> None:
        self.made = 0
        self.waits: list[float] = []
        self._failures = failures
        self._error = error or OverloadedError("full")

    async def __call__(self) -> str:
        self.made += 1
        if self.made <= self._failures:
            raise self._error
        return "answer"

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def retried(calls: Calls, *, budget: RetryBudget | None = None, deadline_s: float = 60.0) -> str:
    deadline = Deadline.after(deadline_s, clock=SteppedClock())
    return await retry_overload(calls, budget=budget or RetryBudget(), deadline=deadline, sleep=calls.sleep)


async def test_an_overload_is_tried_again_after_growing_waits() -> None:
    calls = Calls(failures=3)

    assert await retried(calls) == "answer"
    assert calls.made == 4
    assert calls.waits == sorted(calls.waits)


async def test_another_error_is_not_tried_again() -> None:
    calls = Calls(failures=1, error=EmbeddingUnavailableError("gone"))

    with pytest.raises(EmbeddingUnavailableError):
        await retried(calls)

    assert calls.made == 1


async def test_no_retry_begins_that_the_deadline_would_end() -> None:
    calls = Calls(failures=1)

    with pytest.raises(OverloadedError):
        await retried(calls, deadline_s=0.05)

    assert calls.made == 1


async def test_under_lasting_overload_a_tenth_of_the_calls_is_retried() -> None:
    budget = RetryBudget()
    made = 0
    for _ in range(200):
        calls = Calls(failures=99)
        with pytest.raises(OverloadedError):
            await retried(calls, budget=budget)
        made += calls.made

    reserve = 3
    assert made - 200 <= 200 * 0.1 + reserve
