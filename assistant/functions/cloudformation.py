"""Answers CloudFormation: whatever happens to a custom resource, its response address hears of it in time.

Without an answer a stack waits for its time-out, by default an hour, and cannot roll back before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aiohttp
import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import AssistantError
from assistant.functions.entry import Event, LambdaContext

_ANSWERING_S = 20.0
"""Of the function's time that is kept for the answer."""
_ATTEMPT_S = 5.0
_PAUSE_S = 0.5
_ATTEMPTS = 3
_LONGEST_REASON = 1000
"""Characters; CloudFormation takes an answer of 4,096 bytes."""
_log = structlog.get_logger(__name__)


class ResourceRequest(BaseModel):
    """What CloudFormation asks. https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html"""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_type: Literal["Create", "Update", "Delete"] = Field(alias="RequestType")
    response_url: str = Field(alias="ResponseURL", repr=False)
    """Signed by S3: who has it may answer."""
    stack_id: str = Field(alias="StackId")
    request_id: str = Field(alias="RequestId")
    resource_type: str = Field(alias="ResourceType")
    logical_id: str = Field(alias="LogicalResourceId")
    physical_id: str | None = Field(default=None, alias="PhysicalResourceId")
    properties: dict[str, Any] = Field(default_factory=dict, alias="ResourceProperties")

    @property
    def is_delete(self) -> bool:
        return self.request_type == "Delete"


Handle = Callable[[ResourceRequest], Awaitable[str]]
"""Does what is asked and returns the resource's physical id: another one than before replaces it."""


async def answer(handle: Handle, event: Event, context: LambdaContext) -> None:
    """Have the request handled within the function's time, and tell CloudFormation what came of it."""
    request = ResourceRequest.model_validate(event)
    status, reason = "SUCCESS", ""
    physical_id = request.physical_id or f"{request.logical_id}-{request.request_id}"
    try:
        async with asyncio.timeout(context.get_remaining_time_in_millis() / 1000 - _ANSWERING_S):
            physical_id = await handle(request)
    except AssistantError as error:
        status, reason = "FAILED", error.message
    except TimeoutError:
        status, reason = "FAILED", "It was not done in the function's time; deploy again."
    except Exception as error:  # noqa: BLE001 (the edge: CloudFormation has to hear of it)
        _log.exception("custom_resource_failed", resource_type=request.resource_type)
        status, reason = "FAILED", f"{type(error).__name__}: the log of the function says where."
    _log.info("custom_resource_answered", resource_type=request.resource_type, status=status, reason=reason)
    await _put(request, _body(request, status=status, reason=reason, physical_id=physical_id))


def _body(request: ResourceRequest, *, status: str, reason: str, physical_id: str) -> bytes:
    return orjson.dumps(
        {
            "Status": status,
            "Reason": reason[:_LONGEST_REASON] or "Done.",
            "PhysicalResourceId": physical_id,
            "StackId": request.stack_id,
            "RequestId": request.request_id,
            "LogicalResourceId": request.logical_id,
            "NoEcho": False,
            "Data": {},
        }
    )


async def _put(request: ResourceRequest, body: bytes) -> None:
    """The address was signed without a content type, and one is refused. Raises as the last attempt did."""
    timeout = aiohttp.ClientTimeout(total=_ATTEMPT_S)
    async with aiohttp.ClientSession(timeout=timeout, skip_auto_headers=("Content-Type",)) as session:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with session.put(_url(request), data=body) as response:
                    response.raise_for_status()
                    return
            except (aiohttp.ClientError, TimeoutError) as error:
                # The message of an error may quote the address.
                _log.warning("answer_not_taken", attempt=attempt, error=type(error).__name__)
                if attempt == _ATTEMPTS:
                    raise
            await asyncio.sleep(_PAUSE_S * attempt)


def _url(request: ResourceRequest) -> Any:
    """The signature holds for the address as it is written."""
    from yarl import URL

    return URL(request.response_url, encoded=True)
