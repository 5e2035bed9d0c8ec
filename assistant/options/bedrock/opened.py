"""Opens the model of a tenant that writes by Bedrock."""

from __future__ import annotations

from assistant.answer.services import AnswerWriter
from assistant.models.artifacts import CharacterTokenCounter, unknown_model
from assistant.models.opened import ModelStores
from assistant.options.bedrock.converse import BedrockGenerator, BedrockRuntime
from assistant.options.bedrock.section import BedrockSection
from assistant.tenant.manifests import WRITER


async def open_writer(stores: ModelStores) -> AnswerWriter | None:
    """Return what writes the answers of a tenant that names a model of Bedrock."""
    bedrock = BedrockSection.of(stores.tenant)
    if bedrock is None:
        return None
    region = stores.settings.region
    client = await stores.clients.once(BedrockRuntime.service, lambda: BedrockRuntime.open(region=region))
    model = unknown_model(bedrock.model, WRITER)
    return AnswerWriter(BedrockGenerator(client, model=bedrock.model), model, CharacterTokenCounter())
