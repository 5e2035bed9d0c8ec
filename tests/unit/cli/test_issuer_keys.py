"""The issuer's keys, as a first deployment reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from assistant.cli.aws.deploying import published_keys
from assistant.domain.errors import DeploymentError
from tests.stage.servers import http_pages

pytestmark = pytest.mark.loopback
KEYS = {"keys": [{"kty": "EC", "kid": "one"}]}


@pytest.fixture
def issuer() -> Iterator[Callable[..., str]]:
    """Serves what a test says by path; returns the issuer's address."""
    pages: dict[str, Any] = {}

    def answer(request: BaseHTTPRequestHandler) -> None:
        found = pages.get(request.path)
        request.send_response(200 if found is not None else 404)
        request.end_headers()
        request.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

    with http_pages(answer) as url:

        def publish(keys: Any = KEYS, **changes: str) -> str:
            found = {"issuer": url, "jwks_uri": f"{url}/keys"} | changes
            pages.update({"/.well-known/openid-configuration": found, "/keys": keys})
            return url

        yield publish


def test_the_keys_are_those_that_the_issuer_names(issuer: Callable[..., str]) -> None:
    assert json.loads(published_keys(issuer())) == KEYS


def test_certificates_of_keys_are_left_out_and_more_than_a_parameter_holds_is_refused(
    issuer: Callable[..., str],
) -> None:
    key = {"kty": "RSA", "kid": "one", "n": "n" * 342, "e": "AQAB", "use": "sig"}
    certified = key | {"x5c": ["M" * 1500], "x5t": "t", "x5t#S256": "s"}
    assert json.loads(published_keys(issuer({"keys": [certified] * 6}))) == {"keys": [key] * 6}
    with pytest.raises(DeploymentError, match=r"11,950 characters of keys, and a parameter at most 8,192"):
        published_keys(issuer({"keys": [certified] * 30}))


@pytest.mark.parametrize(
    ("keys", "changes", "said"),
    [
        (KEYS, {"issuer": "https://other.net"}, "calls itself https://other.net"),
        (KEYS, {"jwks_uri": "file:///etc/passwd"}, "not an address of the same scheme"),
        (KEYS, {"jwks_uri": ""}, "not an address of the same scheme"),
        ({"keys": []}, {}, "holds no key"),
        ([], {}, "holds no JSON object"),
        ({"keys": ["one"]}, {}, "holds no key set"),
        ({"keys": 1}, {}, "holds no key set"),
        (b"<html>", {}, "cannot be read"),
    ],
)
def test_what_is_no_key_set_is_refused(
    issuer: Callable[..., str], keys: Any, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(DeploymentError, match=said):
        published_keys(issuer(keys, **changes))


def test_an_issuer_that_does_not_answer_is_named() -> None:
    with pytest.raises(DeploymentError, match=r"http://127\.0\.0\.1:9/\.well-known/\S+ cannot be read"):
        published_keys("http://127.0.0.1:9")
