"""Frames of ConverseStream as Bedrock documents them, held against botocore's description of the service; and
a writer for whole answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import create_loader
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.validate import ParamValidator

from tests.stage.sagemaker_runtime import encode_message
from tests.stage.servers import Exchange, Script

MODEL = "us.anthropic.claude-sonnet-4-20250514-v1:0"


def operation() -> OperationModel:
    description = create_loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(description).operation_model("ConverseStream")


OPERATION: Any = operation()
STREAM: Any = OPERATION.output_shape.members["stream"]
ERRORS: Mapping[str, int] = {
    shape.name: shape.metadata["error"]["httpStatusCode"] for shape in OPERATION.error_shapes
}
EXCEPTIONS = sorted(name for name, shape in STREAM.members.items() if shape.metadata.get("exception"))
STOP_REASONS = sorted(STREAM.members["messageStop"].members["stopReason"].enum)


def event(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return a frame; ``fields`` must be what botocore's description has of the event."""
    report = ParamValidator().validate(fields, STREAM.members[kind])
    assert not report.has_errors(), report.generate_report()
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return encode_message(headers, orjson.dumps({**fields, "p": "abcdefgh"}))  # the padding that Bedrock adds


def exception(kind: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_message(headers, orjson.dumps({"message": "What is code 79?"}))


def text(piece: str, block: int = 0) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": block, "delta": {"text": piece}})


def reasoning(piece: str) -> bytes:
    return event(
        "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": piece}}}
    )


def stop(reason: str) -> bytes:
    return event("messageStop", {"stopReason": reason})


START = event("messageStart", {"role": "assistant"})
BLOCK_END = event("contentBlockStop", {"contentBlockIndex": 0})
USAGE = event(
    "metadata",
    {"usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 31}},
)


def whole(*pieces: str, reason: str = "end_turn") -> bytes:
    return b"".join([START, *map(text, pieces), BLOCK_END, stop(reason), USAGE])


def read_by_botocore(stream: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the events that AWS's own client reads in the bytes."""
    buffer, parser = EventStreamBuffer(), create_parser("rest-json")._event_stream_parser
    buffer.add_data(stream)
    for message in buffer:
        yield parser.parse(message.to_response_dict(), STREAM)


ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
"""By which AWS's SDKs, and ours, call another address."""


def copies_a_line(holding: str) -> Script:
    """Answer each prompt with its first sentence that holds the text."""

    async def script(exchange: Exchange) -> None:
        prompt = orjson.loads(exchange.body)["messages"][-1]["content"][-1]["text"]
        number, line = next(
            found
            for found in re.findall(r"^\[(\d+\.\d+)\] (.+)$", prompt, re.MULTILINE)
            if holding in found[1]
        )
        sentence = re.split(r"(?<=\.) ", line)[0].removesuffix(".")
        await exchange.respond_in_chunks(
            START,
            text(sentence),
            text(f" [{number}]."),
            BLOCK_END + stop("end_turn") + USAGE,
            Content_Type="application/vnd.amazon.eventstream",
            x_amzn_RequestId="0f3b",
        )

    return script
