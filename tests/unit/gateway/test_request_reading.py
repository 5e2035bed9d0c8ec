"""What the gateway takes, and what it refuses as the real service would."""

from __future__ import annotations

import pytest

from assistant.local.gateway.aws_errors import AwsError
from assistant.local.gateway.invocation import read_invocation
from assistant.local.gateway.signature import require_signature

SIGNATURE = "a" * 64
SCOPE = "AKIDEXAMPLE/20261120/us-east-1/sagemaker/aws4_request"
DATE = "20261120T093000Z"


def authorization(scope: str = SCOPE, signed: str = "host;x-amz-date", signature: str = SIGNATURE) -> str:
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signature}"


def test_a_well_formed_signature_passes() -> None:
    require_signature({"authorization": authorization(), "x-amz-date": DATE})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-date": DATE},
        {"authorization": "Bearer token", "x-amz-date": DATE},
        {"authorization": authorization(signature="a" * 63), "x-amz-date": DATE},
        {"authorization": authorization(signature="G" * 64), "x-amz-date": DATE},
        {"authorization": authorization(signed="host"), "x-amz-date": DATE},
        {"authorization": authorization(scope=SCOPE.replace("sagemaker", "s3")), "x-amz-date": DATE},
        {"authorization": authorization(scope=SCOPE.replace("20261120", "20261121")), "x-amz-date": DATE},
        {"authorization": authorization(scope="AKIDEXAMPLE"), "x-amz-date": DATE},
        {"authorization": authorization()},
        {"authorization": authorization(), "x-amz-date": "today"},
    ],
)
def test_anything_else_is_403(headers: dict[str, str]) -> None:
    with pytest.raises(AwsError) as caught:
        require_signature(headers)

    assert caught.value.status == 403


def test_path_and_headers_are_read() -> None:
    headers = {
        "content-type": "application/json",
        "x-amzn-sagemaker-accept": "text/event-stream",
        "x-amzn-sagemaker-inference-id": "abc",
        "x-amzn-sagemaker-custom-attributes": "trace=1",
    }

    invocation = read_invocation("POST", "/endpoints/clinic-llm/invocations-response-stream", headers)

    assert (invocation.endpoint, invocation.streamed) == ("clinic-llm", True)
    assert invocation.container_headers() == {
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
        "X-Amzn-SageMaker-Inference-Id": "abc",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/endpoints/llm/invocations", 404),
        ("POST", "/endpoints/llm/async-invocations", 404),
        ("POST", "/", 404),
        ("POST", "/endpoints/a%2Fb/invocations", 400),
        ("POST", "/endpoints/-llm/invocations", 400),
    ],
)
def test_another_operation_or_a_bad_name_is_refused(method: str, path: str, status: int) -> None:
    with pytest.raises(AwsError) as caught:
        read_invocation(method, path, {})

    assert caught.value.status == status


@pytest.mark.parametrize(
    "header", ["target-model", "target-container-hostname", "inference-component", "session-id", "new-thing"]
)
def test_what_only_the_real_service_does_is_refused_not_ignored(header: str) -> None:
    with pytest.raises(AwsError, match=header):
        read_invocation("POST", "/endpoints/llm/invocations", {f"x-amzn-sagemaker-{header}": "x"})


def test_the_only_variant_may_be_named_and_no_other() -> None:
    path = "/endpoints/llm/invocations"
    assert read_invocation("POST", path, {"x-amzn-sagemaker-target-variant": "AllTraffic"})
    with pytest.raises(AwsError):
        read_invocation("POST", path, {"x-amzn-sagemaker-target-variant": "Blue"})
