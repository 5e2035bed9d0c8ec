"""Each bad input has its status and its stable code, and calls no model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from tests.stage.running_service import RunningService, running_service
from tests.stage.tokens import claims, signed_with_public_key, token, unsigned

pytestmark = pytest.mark.asyncio(loop_scope="module")
HI = {"who": "customer", "text": "hi"}
JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    """One service for all of them: nothing here changes it."""
    async with running_service(tmp_path_factory.mktemp("service")) as service:
        yield service


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"question":""}', 422, "invalid_request"),
        (b'{"question":"   "}', 422, "invalid_request"),
        (b"{}", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (orjson.dumps({"question": "x" * 100_000}), 413, "too_large"),
        (orjson.dumps({"question": "x" * 5_000}), 413, "too_large"),
        (b'{"question":"caf\xe9"}', 400, "unreadable_request"),
        (b'{"question":', 400, "unreadable_request"),
        (b"", 400, "unreadable_request"),
        (b'{"question":"a","tenant":"pharmacy"}', 422, "invalid_request"),
        (b'{"question":"a","resume_window_s":31}', 422, "invalid_request"),
        (b'{"question":"a","filters":{"tenant":["pharmacy"]}}', 422, "invalid_request"),
        (b'{"question":"a","filters":{"labels":["hr"]}}', 422, "invalid_request"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_bad_question(
    service: RunningService, body: bytes, status: int, code: str, accept: str
) -> None:
    headers = service.headers(accept=accept) | JSON
    response = await service.client.post("/v1/answers", content=body, headers=headers)
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["status"] == status
    assert not service.sagemaker.embeddings
    assert not service.sagemaker.generations


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 422, "question"),
        ({"turns": []}, 422, "question"),
        ({"turns": [{"who": "bot", "text": "hi"}]}, 422, "turns.0.who"),
        ({"turns": [{"who": "customer"}]}, 422, "turns.0.text"),
        ({"turns": [HI | {"text": " "}]}, 422, "turns.0.text"),
        ({"turns": [HI | {"at": "noon"}]}, 422, "turns.0.at"),
        ({"turns": [HI | {"who": "agent"}]}, 422, "turns"),
        ({"turns": [HI] * 201}, 422, "turns"),
        ({"turns": [HI | {"text": "x" * 4_001}]}, 413, "turns.0.text"),
    ],
)
async def test_a_malformed_chat_is_refused_with_its_place(
    service: RunningService, body: dict[str, Any], status: int, named: str
) -> None:
    response = await service.call("POST", "/v1/answers", json=body)
    assert (response.status_code, named in response.json()["detail"]) == (status, True), response.text


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "\xe9"])
async def test_an_idempotency_key_is_short_visible_ascii(service: RunningService, key: str) -> None:
    headers = httpx.Headers(service.headers() | {"Idempotency-Key": key}, encoding="latin-1")
    response = await service.client.post("/v1/answers", json={"question": "a"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert "Idempotency-Key" in response.json()["detail"]


async def test_an_endless_body_is_cut_off(service: RunningService) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"question":"'
        for _ in range(100_000):
            sent += 1
            yield b"x" * 10_000

    # the service closes while the client still sends, so the answer itself may be lost
    with contextlib.suppress(httpx.TransportError):
        response = await service.call("POST", "/v1/answers", content=endless())
        assert response.status_code == 413
    assert sent < 1_000


TOKENS = {
    "none": lambda: None,
    "garbage": lambda: "garbage",
    "unsigned": lambda: unsigned(claims(now())),
    "HS256 with the public key": lambda: signed_with_public_key(claims(now())),
    "wrong audience": lambda: token(claims(now(), aud="other")),
    "expired": lambda: token(claims(now(), exp=int(now().timestamp()) - 120)),
    "unknown tenant": lambda: token(claims(now(), tenant="nobody")),
}
ROUTES = [
    ("POST", "/v1/answers"),
    ("GET", "/v1/answers?conversation_id=c"),
    ("GET", "/v1/answers/a"),
    ("DELETE", "/v1/answers/a"),
    ("POST", "/v1/answers/a/verdict"),
    ("POST", "/v1/answers/a/sent"),
    ("POST", "/v1/answers/a/acts"),
    ("GET", "/v1/documents"),
    ("POST", "/v1/documents"),
    ("GET", "/v1/documents/wait"),
    ("GET", "/v1/documents/wait/status"),
    ("DELETE", "/v1/documents/wait"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_bad_token_is_one_and_the_same_401_but_for_the_claim_of_a_signed_one(
    service: RunningService, method: str, path: str
) -> None:
    answers: set[bytes] = set()
    for name, make in TOKENS.items():
        bearer = make()
        headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
        response = await service.client.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        if (claim := {"wrong audience": "aud", "unknown tenant": "tenant"}.get(name)) is not None:
            assert f"claim {claim} is missing" in response.json()["detail"]
        else:
            answers.add(response.content)
    assert len(answers) == 1
    assert orjson.loads(answers.pop())["code"] == "unauthenticated"


FORBIDDEN = [
    ("POST", "/v1/answers", "knowledge_owner"),
    ("POST", "/v1/answers", "auditor"),
    ("GET", "/v1/answers/a", "knowledge_owner"),
    ("GET", "/v1/answers?conversation_id=c", "knowledge_owner"),
    ("DELETE", "/v1/answers/a", "auditor"),
    ("POST", "/v1/answers/a/verdict", "auditor"),
    ("POST", "/v1/answers/a/sent", "knowledge_owner"),
    ("POST", "/v1/answers/a/acts", "reviewer"),
    ("GET", "/v1/documents", "agent"),
    ("POST", "/v1/documents", "agent"),
    ("GET", "/v1/documents/wait/status", "auditor"),
    ("DELETE", "/v1/documents/wait", "agent"),
    ("GET", "/v1/documents/wait", "guest"),
]


@pytest.mark.parametrize(("method", "path", "role"), FORBIDDEN)
async def test_a_missing_role_is_403(service: RunningService, method: str, path: str, role: str) -> None:
    response = await service.call(method, path, roles=[role])
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/answers/a/events"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/nothing"),
        ("GET", "/a/b/c"),
        ("GET", "/v1/documents/a%2Fb"),
    ],
)
async def test_what_is_not_there_is_404(service: RunningService, method: str, path: str) -> None:
    response = await service.call(method, path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_method_that_a_path_does_not_have_is_405(service: RunningService) -> None:
    response = await service.client.put("/v1/answers/a", headers=service.headers())
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "state=gone", "limit=x"])
async def test_a_wrong_query_is_422(service: RunningService, query: str) -> None:
    headers = service.headers(roles=["knowledge_owner"])
    response = await service.client.get(f"/v1/documents?{query}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
