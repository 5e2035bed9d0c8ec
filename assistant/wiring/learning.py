"""Opens what a learner of one tenant reads and writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.learning.ports import DeskStore, FeedbackStore
from assistant.settings.tenant import TenantConfig
from assistant.wiring.feedback import embedded_feedback
from assistant.wiring.stores import embedded_tenant


@dataclass(frozen=True, slots=True)
class LearningStores:
    feedback: FeedbackStore
    desk: DeskStore


@asynccontextmanager
async def open_learning(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[LearningStores]:
    """Open one tenant's embedded stores, without any other process."""
    stores = embedded_tenant(tenant, state_dir=state_dir)
    try:
        yield LearningStores(embedded_feedback(tenant, stores), stores.desk)
    finally:
        await stores.close()
