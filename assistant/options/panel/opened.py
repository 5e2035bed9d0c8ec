"""Opens the panel's codes and what suggests, for one tenant."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joserfc.jwk import OctKey

from assistant.options.panel.codes import PURPOSE, PanelCodes
from assistant.options.panel.counts import COUNTS, StoredCounts
from assistant.options.panel.read_turns import ReadTurns
from assistant.options.panel.section import PanelSection

if TYPE_CHECKING:
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice

_BEGIN, _MAC = 27, 24
"""Characters of an id: "2026-11-20-" and 64 random bits; 96 bits of the MAC."""


@dataclass(frozen=True, slots=True)
class Suggestions:
    """What the routes of suggestions ask for."""

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


async def open_panel(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the parts of a served tenant that the routes ask for, such as ``tenant.part(PanelCodes)``."""
    key = OctKey.import_key(served.links.derived_key(PURPOSE))
    read = ReadTurns(served.answering, served.answer_question)
    least, counts = PanelSection.of(stores.tenant).least_suggestion, await stores.of(COUNTS)
    return (
        PanelCodes(stores.tenant.name, key, served.claims, stores.clock),
        Suggestions(read, counts, least, served.links.derived_key(b"suggestions/1")),
    )
