"""A review desk in memory, as serving reads it, and items for it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from assistant.domain.desk import BoundSource, DeskItem, DeskKind, GlossaryEntry, ItemState
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel
from assistant.options.desk.approved import ApprovedAnswer

AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = date(2099, 1, 1)


@dataclass
class FakeDesk:
    """All revisions in order; ``error`` makes every call fail."""

    items: list[DeskItem] = field(default_factory=list[DeskItem])
    error: AssistantError | None = None
    lists: int = 0
    """How many lists were read."""

    async def version(self) -> int:
        self._check()
        return len(self.items)

    async def list(self, kind: DeskKind, *, limit: int = 5_000) -> list[DeskItem]:
        self._check()
        self.lists += 1
        newest = {item.item_id: item for item in self.items if item.kind is kind}
        return sorted(newest.values(), key=self.items.index, reverse=True)[:limit]

    async def history(self, kind: DeskKind, item_id: str) -> builtins.list[DeskItem]:
        self._check()
        return [item for item in self.items if (item.kind, item.item_id) == (kind, item_id)]

    def add(self, body: PublicModel, *, item_id: str = "one") -> None:
        """Add a revision of an item."""
        kind = _KINDS[type(body)]
        before = [item for item in self.items if (item.kind, item.item_id) == (kind, item_id)]
        self.items.append(
            DeskItem(
                kind=kind,
                item_id=item_id,
                revision=len(before) + 1,
                at=AT,
                by="reviewer",
                body=body.model_dump_json(),
            )
        )

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


_KINDS = {
    ApprovedAnswer: DeskKind.APPROVED_ANSWER,
    GlossaryEntry: DeskKind.GLOSSARY_ENTRY,
}


def approved(
    question: str = "May a child pick up a controlled prescription?",
    text: str = "No. Ask for an adult.",
    *,
    sources: Sequence[BoundSource] = (),
    **changes: Any,
) -> ApprovedAnswer:
    """Return a live approved answer without vectors."""
    body = ApprovedAnswer(
        questions=(question,),
        text=text,
        owner="Pickup Desk",
        expires_on=LATER,
        sources=tuple(sources),
        state=ItemState.LIVE,
        proposed_by="reviewer",
    )
    return body.model_copy(update=changes)


def glossary(said: str, means: str, *, state: ItemState = ItemState.LIVE) -> GlossaryEntry:
    return GlossaryEntry(said=said, means=means, state=state, proposed_by="reviewer")
