"""Opens what suggests for one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.options.suggest.counts import COUNTS, StoredCounts
from assistant.options.suggest.found import ReadTurns, shipped_weights
from assistant.options.suggest.section import least_of

if TYPE_CHECKING:
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What the routes ask for."""

    read: ReadTurns
    counts: StoredCounts
    least: float


async def open_suggestions(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the suggestions of a tenant."""
    least = least_of(stores.tenant)
    return [
        Suggestions(
            ReadTurns(served.answering, served.answer_question),
            await stores.of(COUNTS),
            shipped_weights().least if least is None else least,
        )
    ]
