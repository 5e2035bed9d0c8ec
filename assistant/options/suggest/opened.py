"""Opens what suggests for one tenant."""

from __future__ import annotations

import hmac
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

_BEGIN, _MAC = 27, 24
"""Characters of an id: "2026-11-20-" and 64 random bits; 96 bits of the MAC."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What the routes ask for."""

    read: ReadTurns
    counts: StoredCounts
    least: float
    key: bytes
    """Of the MACs of suggestions' ids."""

    def shown_id(self, begin: str, *, agent: str, step: int) -> str:
        """Return the id of a suggestion that is shown to an agent. ``begin``: the day and random characters;
        what follows is replaced."""
        kept = begin[:_BEGIN]
        return kept + hmac.digest(self.key, f"{kept}#{step}#{agent}".encode(), "sha256").hex()[:_MAC]


async def open_suggestions(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the suggestions of a tenant."""
    read = ReadTurns(served.answering, served.answer_question)
    least = keys_of(stores.tenant, SuggestTenant).suggest.least
    return [Suggestions(read, await stores.of(COUNTS), least, served.links.derived_key(b"suggestions/1"))]
