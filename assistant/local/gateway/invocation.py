"""One request to the SageMaker Runtime, read from the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from assistant.local.gateway.aws_errors import unknown_operation, validation_error

_PATH = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/(?P<operation>invocations|invocations-response-stream)")
_ENDPOINT_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_PREFIX = "x-amzn-sagemaker-"
_HONOURED = frozenset({"custom-attributes", "inference-id", "accept", "target-variant", "content-type"})
VARIANT = "AllTraffic"
_LONGEST_ATTRIBUTES = 1024
_LONGEST_INFERENCE_ID = 64


@dataclass(frozen=True, slots=True)
class Invocation:
    endpoint: str
    streamed: bool
    content_type: str
    accept: str | None
    custom_attributes: str | None
    inference_id: str | None

    def container_headers(self) -> dict[str, str]:
        """Return the headers that the container is asked with."""
        headers = {
            "Content-Type": self.content_type,
            "Accept": self.accept,
            "X-Amzn-SageMaker-Custom-Attributes": self.custom_attributes,
            "X-Amzn-SageMaker-Inference-Id": self.inference_id,
        }
        return {name: value for name, value in headers.items() if value is not None}


def read_invocation(method: str, path: str, headers: Mapping[str, str]) -> Invocation:
    """Read path and headers. Raises AwsError, also for what only the real service can do."""
    match = _PATH.fullmatch(path)
    if match is None or method != "POST":
        raise unknown_operation()
    endpoint = unquote(match["endpoint"])
    if not _ENDPOINT_NAME.fullmatch(endpoint):
        raise validation_error("EndpointName must be 1 to 63 letters, digits and single hyphens.")
    _refuse_what_is_not_local(headers)
    streamed = match["operation"] == "invocations-response-stream"
    return Invocation(
        endpoint=endpoint,
        streamed=streamed,
        content_type=headers.get("content-type", "application/octet-stream"),
        accept=headers.get(_PREFIX + "accept" if streamed else "accept"),
        custom_attributes=_bounded(headers, "custom-attributes", longest=_LONGEST_ATTRIBUTES),
        inference_id=_bounded(headers, "inference-id", longest=_LONGEST_INFERENCE_ID),
    )


def _refuse_what_is_not_local(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not name.startswith(_PREFIX):
            continue
        field = name.removeprefix(_PREFIX)
        if field not in _HONOURED:
            raise validation_error(f"{name} is not supported by this local endpoint.")
        if field == "target-variant" and value != VARIANT:
            raise validation_error(f"Variant {value} not found; the only one is {VARIANT}.")


def _bounded(headers: Mapping[str, str], field: str, *, longest: int) -> str | None:
    value = headers.get(_PREFIX + field)
    if value is not None and len(value) > longest:
        raise validation_error(f"{_PREFIX}{field} is longer than {longest} characters.")
    return value
