"""What retrieval adds to the index's own order."""

from __future__ import annotations

from assistant.answering.retrieving import RetrievePassages
from assistant.domain.clock import Deadline
from tests.fakes.answering import FakeTenant, passage


async def retrieved(question: str) -> list[tuple[int, str]]:
    tenant = FakeTenant().with_passages(
        passage("seventy", title="Reject 70", text="Not covered, even after 79 days."),
        passage("seventy-five", title="Reject 75", text="Prior authorization."),
        passage("seventy-nine", title="Reject 079", text="Refill too soon."),
        passage("eighty", title="Reject 80", text="Diagnosis code."),
    )
    services = tenant.services
    found = await RetrievePassages(services).retrieve(
        question, labels=frozenset(), deadline=Deadline.after(5, clock=services.clock), size=2
    )
    return [(one.rank, one.passage.document_id) for one in found.passages]


async def test_passages_that_hold_a_named_code_come_first_in_fused_order() -> None:
    assert await retrieved("what do I do about reject 79") == [(1, "seventy"), (2, "seventy-nine")]
    assert await retrieved("claim came back with code 80") == [(1, "eighty"), (2, "seventy")]


async def test_a_number_that_is_no_code_changes_nothing() -> None:
    assert await retrieved("80 tablets are missing") == [(1, "seventy"), (2, "seventy-five")]
