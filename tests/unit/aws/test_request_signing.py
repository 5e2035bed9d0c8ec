"""Our signer against botocore's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from assistant.aws.signed_posts import RequestSigner, SigningKey

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
REGION = "eu-central-1"
BODY = b'{"TableName":"t"}'
PUT = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.PutItem"}
INVOCATION = {"Content-Type": "application/json", "Accept": "application/json"}
STREAM = {
    "Content-Type": "application/json",
    "X-Amzn-SageMaker-Accept": "text/event-stream",
    "X-Amzn-SageMaker-Inference-Id": "0a1b",
}


@pytest.mark.parametrize("token", [None, "session/token=="])
@pytest.mark.parametrize("host", ["https://service.eu-central-1.amazonaws.com", "http://127.0.0.1:8000"])
@pytest.mark.parametrize(
    ("service", "path", "headers"),
    [
        ("dynamodb", "/", PUT),
        ("sagemaker", "/endpoints/acme-embedding/invocations", INVOCATION),
        ("sagemaker", "/endpoints/acme-llm/invocations-response-stream", STREAM),
        ("sagemaker", "/endpoints/a%20b%2Fc/invocations", INVOCATION),
    ],
)
def test_a_signature_is_botocore_s(
    service: str, path: str, headers: dict[str, str], host: str, token: str | None
) -> None:
    signer = RequestSigner(host=urlsplit(host).netloc, region=REGION, service=service)
    key = SigningKey("AKID", "s", token)
    ours = signer.headers(path, headers=headers, body=BODY, at=NOON, key=key)
    assert ours.items() >= headers.items()
    assert ours["Authorization"] == _signed_by_botocore(host + path, ours, service=service, token=token)


def test_another_day_and_another_secret_have_other_keys() -> None:
    signer = _signer()
    for at, secret in ((NOON, "s1"), (NOON + timedelta(days=1), "s1"), (NOON, "s2"), (NOON, "s1")):
        assert _headers(signer, at=at, secret=secret) == _headers(_signer(), at=at, secret=secret)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=14)))
    assert _headers(_signer(), at=east) == _headers(_signer())


def _signer() -> RequestSigner:
    return RequestSigner(host="h", region=REGION, service="dynamodb")


def _headers(
    signer: RequestSigner,
    *,
    at: datetime = NOON,
    secret: str = "s",  # noqa: S107 : nobody's
) -> dict[str, str]:
    return signer.headers("/", headers=PUT, body=BODY, at=at, key=SigningKey("AKID", secret))


def _signed_by_botocore(url: str, headers: dict[str, str], *, service: str, token: str | None) -> str:
    request = AWSRequest("POST", url, data=BODY)
    for name, value in headers.items():
        if name != "Authorization":
            request.headers[name] = value
    request.context["timestamp"] = headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials("AKID", "s", token), service, REGION)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    signed = signer.signed_headers(signer.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed}, Signature={signature}"
    )
