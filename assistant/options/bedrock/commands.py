"""``assistant bedrock``: shows that an account's Bedrock answers, by one message."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.options.bedrock.converse import BedrockGenerator, BedrockRuntime
from assistant.options.bedrock.section import BedrockSection
from assistant.stores.ports import ChatMessage, GenerationRequest
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal

app = typer.Typer(no_args_is_help=True, add_completion=False)
_DEADLINE_S = 90.0
"""Limit of the whole answer."""


@app.callback()
def bedrock() -> None:
    """Ask the model of a tenant that writes by Amazon Bedrock."""


@app.command("try")
def try_model(
    context: typer.Context, tenant: Tenant, message: Annotated[str, typer.Argument(metavar="MESSAGE")]
) -> None:
    """Send one message, without documents, to the tenant's model by your own AWS credentials."""
    options = GlobalOptions.of(context)
    config = options.tenant(tenant)
    bedrock, generation, place = BedrockSection.of(config), config.generation, config.deployment
    if bedrock is None or place is None:
        raise ConfigurationError(f"{tenant}: its file has no [bedrock], or no [deployment].")
    request = GenerationRequest(
        (ChatMessage("user", message),), max_tokens=generation.max_tokens, temperature=generation.temperature
    )
    answer = asyncio.run(_ask(bedrock.model, request, region=place.region))
    if not options.writes(answer):
        Terminal().show(answer["text"])
        Terminal().say(f"{answer['finish_reason']}, {answer['usage']}, request {answer['request_id']}")


async def _ask(model: str, request: GenerationRequest, *, region: str) -> dict[str, Any]:
    """Return the model's text, finish reason, token usage and AWS's request id, as JSON prints them.

    Raises GenerationUnavailableError, OverloadedError, DeadlineExceededError.
    """
    deadline = Deadline.after(_DEADLINE_S, clock=SystemClock())
    async with (
        BedrockRuntime.open(region=region) as client,
        BedrockGenerator(client, model=model).stream(request, deadline=deadline) as stream,
    ):
        deltas = [delta async for delta in stream]
        last = deltas[-1]
        return {
            "text": "".join(delta.text for delta in deltas),
            "finish_reason": last.finish_reason,
            "usage": last.usage and last.usage.model_dump(),
            "request_id": stream.inference_id,
        }
