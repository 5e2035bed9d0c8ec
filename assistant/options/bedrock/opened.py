"""Opens the model of a tenant that writes by Bedrock."""

from __future__ import annotations

from contextlib import AsyncExitStack

from assistant.answer.services import AnswerWriter
from assistant.models.artifacts import CharacterTokenCounter, unknown_model
from assistant.models.opened import ModelStores
from assistant.options.bedrock.converse import BedrockGenerator, BedrockRuntime
from assistant.options.bedrock.section import BedrockSection
from assistant.tenant.manifests import WRITER
from assistant.tenant.tenant import TenantConfig


async def open_writer(stores: ModelStores) -> AnswerWriter | None:
    """Return what writes the answers of a tenant that names a model of Bedrock."""
    bedrock = BedrockSection.of(stores.tenant)
    if bedrock is None:
        return None
    region = stores.settings.region
    client = await stores.clients.once(BedrockRuntime.service, lambda: BedrockRuntime.open(region=region))
    return _writer(client, bedrock)


async def deployed_writer(tenant: TenantConfig, stack: AsyncExitStack) -> AnswerWriter | None:
    """Return the same by the caller's own AWS credentials; ``stack`` closes its connections."""
    bedrock, place = BedrockSection.of(tenant), tenant.deployment
    if bedrock is None or place is None:
        return None
    return _writer(await stack.enter_async_context(BedrockRuntime.open(region=place.region)), bedrock)


def _writer(client: BedrockRuntime, bedrock: BedrockSection) -> AnswerWriter:
    model = unknown_model(bedrock.model, WRITER.model_copy(update={"sentence_check": bedrock.sentence_check}))
    return AnswerWriter(BedrockGenerator(client, model=bedrock.model), model, CharacterTokenCounter())
