"""Our signer against botocore's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from assistant.adapters.aws.request_signing import RequestSigner

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("url", ["https://dynamodb.eu-central-1.amazonaws.com/", "http://127.0.0.1:8000/"])
@pytest.mark.parametrize("token", [None, "session/token=="])
def test_a_signature_is_botocore_s(url: str, token: str | None) -> None:
    ours = _headers(RequestSigner(url=url, region="eu-central-1", service="dynamodb"), token=token)
    assert ours["Authorization"] == _signed_by_botocore(url, ours, token=token)


def test_another_day_and_another_secret_have_other_keys() -> None:
    signer = RequestSigner(url="http://h/", region="eu-central-1", service="dynamodb")
    for at, secret in ((NOON, "s1"), (NOON + timedelta(days=1), "s1"), (NOON, "s2"), (NOON, "s1")):
        fresh = RequestSigner(url="http://h/", region="eu-central-1", service="dynamodb")
        assert _headers(signer, at=at, secret=secret) == _headers(fresh, at=at, secret=secret)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    signer = RequestSigner(url="http://h/", region="eu-central-1", service="dynamodb")
    east = NOON.astimezone(timezone(timedelta(hours=14)))
    assert _headers(signer, at=east) == _headers(signer)


def _headers(
    signer: RequestSigner,
    *,
    at: datetime = NOON,
    secret: str = "s",  # noqa: S107 : nobody's
    token: str | None = None,
) -> dict[str, str]:
    return signer.headers(
        target="DynamoDB_20120810.PutItem",
        body=b'{"TableName":"t"}',
        at=at,
        access_key="AKID",
        secret_key=secret,
        token=token,
    )


def _signed_by_botocore(url: str, headers: dict[str, str], *, token: str | None) -> str:
    request = AWSRequest("POST", url, data=b'{"TableName":"t"}')
    for name, value in headers.items():
        if name != "Authorization":
            request.headers[name] = value
    request.context["timestamp"] = headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials("AKID", "s", token), "dynamodb", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"
    )
