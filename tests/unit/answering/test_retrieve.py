"""What is asked of the embedder and of the index."""

from __future__ import annotations

import pytest

from assistant.answering.retrieve import RetrievePassages, SearchScope
from assistant.domain.clock import Deadline
from assistant.domain.documents import Retrieved
from tests.fakes.answering import FakeTenant, document, vector_of

REJECTS = [
    document("seventy", "Not covered, even after 79 days.", title="Reject 70"),
    document("seventy-five", "Prior authorization.", title="Reject 75"),
    document("seventy-nine", "Refill too soon.", title="Reject 079"),
    document("eighty", "Diagnosis code.", title="Reject 80"),
]
QUESTION = "what do I do about reject 79"


async def retrieved(tenant: FakeTenant, *, size: int | None = None, whole_legs: bool = False) -> Retrieved:
    services = tenant.services
    scope = SearchScope.untraced(Deadline.after(60, clock=services.clock), size=size)
    asked = await RetrievePassages(services).search(
        QUESTION, vector=vector_of(QUESTION), scope=scope, whole_legs=whole_legs
    )
    return asked.retrieved


async def test_as_many_passages_come_as_an_answer_shows_or_as_are_asked_for() -> None:
    tenant = FakeTenant().with_documents(*REJECTS)
    tenant.configure(retrieval={"passages": 3})
    assert len((await retrieved(tenant)).passages) == 3
    assert len((await retrieved(tenant, size=2)).passages) == 2


async def test_the_legs_are_as_long_as_the_passages_that_are_wanted() -> None:
    tenant = FakeTenant().with_documents(*REJECTS)
    tenant.configure(retrieval={"leg_size": 2})
    await retrieved(tenant)
    await retrieved(tenant, size=40)
    assert [query.leg_size for query in tenant.search.queries] == [5, 40]


async def test_where_codes_are_named_all_passages_of_both_legs_come() -> None:
    """The document that holds a code may be the last of its leg."""
    tenant = FakeTenant().with_documents(*REJECTS)
    tenant.configure(retrieval={"leg_size": 10})
    found = await retrieved(tenant, size=1, whole_legs=True)
    assert tenant.search.queries[0].size == 20
    assert {one.passage.document_id for one in found.passages} == {one.card.document_id for one in REJECTS}


async def test_no_documents_are_read_without_asking_the_index() -> None:
    tenant = FakeTenant()
    services = tenant.services
    scope = SearchScope.untraced(Deadline.after(60, clock=services.clock))
    assert await RetrievePassages(services).read([], scope) == {}
    assert tenant.search.read == []


async def test_a_text_over_the_model_s_limit_has_the_mean_of_its_pieces() -> None:
    tenant = FakeTenant()
    tenant.embedder.too_long_words = 3
    services = tenant.services
    short, vector = await RetrievePassages(services).embed(
        ["refill", "refill claim parcel transfer"],
        SearchScope.untraced(Deadline.after(60, clock=services.clock)),
    )
    assert short == pytest.approx(vector_of("refill"))
    halves = [vector_of("refill claim"), vector_of("parcel transfer")]
    mean = [one + other for one, other in zip(*halves, strict=True)]
    length = sum(value * value for value in mean) ** 0.5
    assert vector == pytest.approx([value / length for value in mean])
