"""How the gateway reads requests, and frames what it sends."""

from __future__ import annotations

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.sagemaker_gateway import (
    AwsError,
    ResponseCutter,
    payload_part,
    read_invocation,
    require_signature,
    stream_exception,
)


@given(payload=st.binary(max_size=2000))
def test_a_part_is_what_the_library_decodes(payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(payload_part(payload))

    event = next(buffer)

    assert event.payload == payload
    assert event.headers[":event-type"] == "PayloadPart"
    assert event.headers[":message-type"] == "event"


def test_an_exception_is_what_the_library_decodes() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(stream_exception("ModelStreamError", "gone", error_code="StreamBroken"))

    event = next(buffer)

    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert event.payload == b'{"Message":"gone","ErrorCode":"StreamBroken"}'


@given(piece=st.binary(min_size=1, max_size=300), seed=st.integers(0, 1000))
def test_parts_are_the_piece_again_and_none_is_empty(piece: bytes, seed: int) -> None:
    parts = list(ResponseCutter(seed).cut(piece))

    assert b"".join(parts) == piece
    assert all(parts)


def test_the_same_seed_cuts_at_the_same_places() -> None:
    pieces = [b"a piece of a stream"] * 20
    first, second = ResponseCutter(3), ResponseCutter(3)

    assert [list(first.cut(piece)) for piece in pieces] == [list(second.cut(piece)) for piece in pieces]


def test_characters_are_cut_too() -> None:
    cutter = ResponseCutter(0)

    parts = [part for _ in range(50) for part in cutter.cut("Größe 😀".encode())]

    assert not all(part.decode(errors="replace").encode() == part for part in parts)


# What the gateway takes, and what it refuses as the real service would.


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
        {"authorization": authorization(scope=SCOPE.replace("sagemaker", "s3")), "x-amz-date": DATE},
        {"authorization": authorization(scope="AKIDEXAMPLE"), "x-amz-date": DATE},
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
    assert invocation.headers == {
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
