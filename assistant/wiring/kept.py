"""For commands on this machine: one tenant's embedded stores, without any other process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.knowledge.stores import KnowledgeStores
from assistant.settings.tenant import TenantConfig
from assistant.wiring.stores import knowledge_of

if TYPE_CHECKING:
    from assistant.answering.ports import AnswerRecords


@dataclass(frozen=True, slots=True)
class TenantStores:
    """What one tenant keeps: enough for commands that call no model."""

    knowledge: KnowledgeStores
    records: AnswerRecords


@asynccontextmanager
async def open_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[TenantStores]:
    """Open one tenant's stores under the state folder."""
    from assistant.adapters.private_files import keep_private
    from assistant.embedded.tenant import EmbeddedTenant

    keep_private(state_dir)
    embedded = EmbeddedTenant(
        state_dir / "tenants" / tenant.name,
        embedding_model=tenant.embedding.model,
        dimensions=tenant.embedding.dimensions,
    )
    try:
        yield TenantStores(knowledge=knowledge_of(embedded), records=embedded.records)
    finally:
        await embedded.close()
