"""Bedrock in the receipt of a withdrawal."""

from __future__ import annotations

from collections.abc import Collection

from assistant.documents.withdraw import KeptTexts
from assistant.options.bedrock.section import BedrockSection
from assistant.tenant.tenant import TenantConfig


def _holds(tenant: TenantConfig) -> Collection[str]:
    return ("bedrock",) if BedrockSection.of(tenant) is not None else ()


KEPT = KeptTexts(holds=_holds)
