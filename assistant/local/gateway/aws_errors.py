"""Errors of the SageMaker Runtime as AWS sends them: a JSON body and the header ``x-amzn-ErrorType``."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

_LONGEST_ORIGINAL_MESSAGE = 1024
"""Characters; AWS documents no limit, but a container's page of HTML helps nobody."""
_ACCOUNT = "000000000000"


class AwsError(Exception):
    """An error that has a name, a status and fields in the service's model."""

    def __init__(self, kind: str, status: int, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.fields = {"Message": message, **fields}

    def response(self, *, request_id: str) -> Response:
        headers = {"x-amzn-ErrorType": self.kind, "x-amzn-RequestId": request_id}
        return Response(orjson.dumps(self.fields), self.status, headers, "application/json")


def endpoint_not_found(name: str) -> AwsError:
    return AwsError("ValidationError", 400, f"Endpoint {name} of account {_ACCOUNT} not found.")


def validation_error(message: str) -> AwsError:
    return AwsError("ValidationError", 400, message)


def request_too_large(message: str) -> AwsError:
    return AwsError("RequestEntityTooLargeException", 413, message)


def not_signed(message: str) -> AwsError:
    return AwsError("MissingAuthenticationTokenException", 403, message)


def badly_signed(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", 403, message)


def unknown_operation() -> AwsError:
    return AwsError("UnknownOperationException", 404, "There is no such operation.")


def service_unavailable(name: str) -> AwsError:
    return AwsError("ServiceUnavailable", 503, f"The container of endpoint {name} cannot be reached.")


def internal_failure() -> AwsError:
    return AwsError("InternalFailure", 500, "The gateway failed on this request.")


def model_error(status: int, body: bytes) -> AwsError:
    """Wrap what the container answered (``status`` 0: it did not answer in time)."""
    original = body.decode(errors="replace")[:_LONGEST_ORIGINAL_MESSAGE]
    side = "client" if 400 <= status < 500 else "server"
    return AwsError(
        "ModelError",
        424,
        f'Received {side} error ({status}) from primary with message "{original}".',
        OriginalStatusCode=status,
        OriginalMessage=original,
        ErrorCode="CLIENT_ERROR_FROM_MODEL" if side == "client" else "INTERNAL_FAILURE_FROM_MODEL",
        LogStreamArn="",
    )
