"""Opens the model of a tenant that writes by Bedrock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from assistant.answer.services import AnswerWriter
from assistant.models.artifacts import CharacterTokenCounter, unknown_model
from assistant.models.opened import ModelStores
from assistant.models.sagemaker import AwsRuntime
from assistant.options.bedrock.converse import BedrockGenerator
from assistant.options.bedrock.section import bedrock_of
from assistant.process.aws.clients import open_client
from assistant.tenant.manifests import WRITER


@asynccontextmanager
async def open_bedrock_runtime(**place: Any) -> AsyncGenerator[AwsRuntime]:
    """Open a client of the Bedrock Runtime; ``place`` is that of ``open_client``."""
    async with open_client("bedrock-runtime", **place) as client:
        runtime = AwsRuntime(client)
        try:
            yield runtime
        finally:
            await runtime.close()


async def open_writer(stores: ModelStores) -> AnswerWriter | None:
    """Return what writes the answers of a tenant that names a model of Bedrock."""
    generation = bedrock_of(stores.tenant)
    if generation is None:
        return None
    region = stores.settings.region
    client = await stores.clients.once("bedrock-runtime", lambda: open_bedrock_runtime(region=region))
    model = unknown_model(generation.model, WRITER)
    return AnswerWriter(BedrockGenerator(client, model=generation.model), model, CharacterTokenCounter())
