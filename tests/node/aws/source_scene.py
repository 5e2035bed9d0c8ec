"""A tenant with three sources of documents in one index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from assistant.answer.find import AskedSources, SourceSearch
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import Passage
from assistant.evaluation.judging import untraced
from assistant.stores.ports import PassageSearch
from tests.contracts.samples import EAST, NORTH, UP, passage
from tests.fakes.answering import FakeTenant
from tests.fakes.clock import SteppedClock

SOURCES = ("catalogue", "reviews", "stores")
CIRCUIT_S = 10.0
"""For so long a source whose circuit is open is not asked."""
WORDS = "Refund a parcel"
ENTRIES: list[tuple[Passage, Sequence[float]]] = [
    (passage("kettle", text="Refund a parcel of the catalogue"), EAST),
    (passage("reviews:r1", text="They refund a parcel quickly"), NORTH),
    (passage("reviews:r2", text="No refund of my parcel"), NORTH),
    (passage("stores:s1", text="Refund a parcel at the desk"), UP),
]


@dataclass
class SourceScene:
    """The sources, whose circuits go by a clock that a test steps."""

    search: PassageSearch
    limits_s: dict[str, float] = field(default_factory=dict[str, float])
    """Of sources whose limit is not 10 s."""
    clock: SteppedClock = field(default_factory=SteppedClock)
    sources: SourceSearch = field(init=False)

    def __post_init__(self) -> None:
        tenant = FakeTenant(clock=self.clock)
        entries = [
            {"name": name, "access": "everyone", "deadline_s": self.limits_s.get(name, 10.0)}
            | ({"namespace": ""} if name == "catalogue" else {"kind": "reviews"})
            for name in SOURCES
        ]
        tenant.config = tenant.config.model_validate(tenant.config.model_dump() | {"sources": entries})
        tenant.configure(limits={"search_timeout_s": 10.0})
        self.sources = SourceSearch(replace(tenant.services, search=self.search))

    async def ask(self) -> AskedSources:
        deadline = Deadline.after(60, clock=SystemClock())  # limits pass by themselves
        return await self.sources.run(WORDS, vector=EAST, call=untraced(deadline))


def documents_of(asked: AskedSources) -> set[str]:
    return {one.passage.document_id for one in asked.retrieved.passages}
