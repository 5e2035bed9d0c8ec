"""Opens the model of a tenant that writes by Bedrock."""

from __future__ import annotations

from assistant.answer.services import AnswerWriter
from assistant.models.artifacts import CharacterTokenCounter, unknown_model
from assistant.models.opened import ModelStores
from assistant.options.bedrock.converse import BedrockGenerator, BedrockRuntime
from assistant.options.bedrock.section import bedrock_of
from assistant.tenant.manifests import WRITER


async def open_writer(stores: ModelStores) -> AnswerWriter | None:
    """Return what writes the answers of a tenant that names a model of Bedrock."""
    generation = bedrock_of(stores.tenant)
    if generation is None:
        return None
    region = stores.settings.region
    client = await stores.clients.once(BedrockRuntime.service, lambda: BedrockRuntime.open(region=region))
    model = unknown_model(generation.model, WRITER)
    return AnswerWriter(BedrockGenerator(client, model=generation.model), model, CharacterTokenCounter())
