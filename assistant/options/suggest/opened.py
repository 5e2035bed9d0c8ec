"""Opens what suggests for one tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.options.suggest.counts import COUNTS, StoredCounts
from assistant.options.suggest.found import ReadTurns
from assistant.options.suggest.section import SuggestTenant
from assistant.tenant.toml_file import keys_of

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
    read = ReadTurns(served.answering, served.answer_question)
    return [Suggestions(read, await stores.of(COUNTS), keys_of(stores.tenant, SuggestTenant).suggest.least)]
