"""A system's elements in memory: what a connector offers, under the rules of the port."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from assistant.domain.clock import Deadline
from assistant.domain.identity import CareContext
from assistant.domain.live import (
    Caller,
    ElementData,
    ElementKind,
    ElementProblem,
    ElementType,
    ElementValue,
    Filled,
    LiveReadError,
)
from tests.fakes.answering import Gate

AS_OF = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
STATUS = ElementType(
    name="orders.status",
    kind=ElementKind.STATUS,
    title="Order status",
    source="orders",
    operation="orders.get_order",
    about=("Where is my order?", "Has the order been shipped?"),
)
SUMMARY = ElementType(
    name="orders.summary",
    kind=ElementKind.CARD,
    title="Order",
    source="orders",
    operation="orders.get_order",
)
STOCK = ElementType(
    name="stores.stock", kind=ElementKind.TABLE, title="Stock", source="stores", operation="stores.get_stock"
)
TYPES = (STATUS, SUMMARY, STOCK)


def of_customer(customer: str, **ids: str) -> CareContext:
    """Return a verified context of ana's conversation with a customer who has one order, of the same name."""
    known = {"customer": (customer,), "order": (f"order-{customer}",)}
    known |= {name: (value,) for name, value in ids.items()}
    return CareContext(agent="ana", customer=customer, ids=known, expires_at=datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class FakeLive:
    """Fills each element with the caller's own order. ``gates`` and ``errors`` are by element."""

    offered: tuple[ElementType, ...] = TYPES
    gates: dict[str, Gate] = field(default_factory=dict[str, Gate])
    errors: dict[str, Exception] = field(default_factory=dict[str, Exception])
    data: dict[str, ElementData] = field(default_factory=dict[str, ElementData])
    """In place of the caller's own order."""
    by_word: dict[str, ElementData | LiveReadError] = field(
        default_factory=dict[str, ElementData | LiveReadError]
    )
    """What is read for a question that is this one word, such as an item's number."""
    delay_s: float = 0.0
    calls: list[tuple[str, Caller]] = field(default_factory=list[tuple[str, Caller]])
    active: int = 0
    most_active: int = 0
    cancelled: list[str] = field(default_factory=list[str])

    def types(self) -> Mapping[str, ElementType]:
        return {one.name: one for one in self.offered}

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        self.calls.append((name, caller))
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            if name in self.gates:
                self.gates[name].reached.set()
                await self.gates[name].opened.wait()
            await asyncio.sleep(self.delay_s)
            if name in self.errors:
                raise self.errors[name]
            return self.filled(name, caller)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.active -= 1

    def filled(self, name: str, caller: Caller) -> Filled:
        said = self.by_word.get(caller.question)
        if isinstance(said, LiveReadError):
            raise said
        if said is not None:
            return Filled(said, as_of=AS_OF, about=f"item {caller.question}")
        if caller.context is None:
            raise LiveReadError(ElementProblem.PARAMETER_MISSING, "Which order? Give the order number.")
        order = caller.context.ids["order"][0]
        own = ElementData(values=(ElementValue(name="status", label="Status", text=f"shipped {order}"),))
        return Filled(self.data.get(name, own), as_of=AS_OF, about=f"order {order}")
