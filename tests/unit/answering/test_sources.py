"""A tenant with several sources: each is asked at once, under its own limit and circuit."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from assistant.answering.adaptations import Adaptations
from assistant.answering.evidence import DOCUMENTS_READ_OF_SOURCES
from assistant.answering.prepare import AnswerRequest
from assistant.answering.routing import read_router
from assistant.answering.sources import FAILURES_TO_OPEN, AskSources
from assistant.answering.use_case import AnswerQuestion
from assistant.domain.answers import Certainty, SourceFacts
from assistant.domain.clock import Deadline
from assistant.domain.documents import ItemFacts, StoredDocument, id_prefix_of
from assistant.domain.elements import ElementData, ElementValue
from assistant.domain.errors import SearchUnavailableError
from tests.contracts.samples import EAST, NORTH, passage, query
from tests.fakes.answering import FakeTenant, agent, document, vector_of
from tests.fakes.live import STOCK, FakeLive
from tests.unit.answering.asking_and_reading import Asked, ask, deadline
from tests.unit.embedded.index_folder import IndexFolder

REFILL = "Retail refills are payable on day 23 of 30."
SHOP = (
    document("kettle", REFILL, title="Refill rules"),
    document("reviews:r1", "The kettle is quiet.", title="Kettle: quiet"),
    document("stores:s1", "Open until nine.", title="Opening hours"),
)
SOURCES: list[dict[str, object]] = [
    {"name": "catalogue", "namespace": "", "kind": "catalogue"},
    {"name": "reviews", "kind": "reviews", "deadline_s": 0.05},
    {"name": "stores", "kind": "community"},
    {"name": "orders", "kind": "live", "reach": "orders"},
]
QUESTION = "On which day are retail refills payable?"


def shop(*documents: StoredDocument, sources: list[dict[str, object]] | None = None) -> FakeTenant:
    tenant = FakeTenant().with_documents(*(documents or SHOP))
    reach = [{"name": "orders", "port": 443, "connector": "orders.toml"}]
    config = tenant.config.model_dump() | {"sources": sources or SOURCES, "reach": reach}
    tenant.config = type(tenant.config).model_validate(config)
    return tenant


def states(asked: Asked) -> dict[str, str]:
    return {one.name: one.state for one in asked.done.asked}


async def test_the_only_source_of_documents_was_asked_by_the_search_of_all() -> None:
    sources = [SOURCES[0], SOURCES[-1]]
    tenant = shop(SHOP[0], sources=sources)
    assert states(await ask(tenant, QUESTION)) == {"catalogue": "answered", "orders": "not_asked"}
    assert [search.ids for search in tenant.search.queries] == [None]
    nothing = shop(sources=sources)
    nothing.search.documents.clear()
    assert states(await ask(nothing, QUESTION))["catalogue"] == "empty"


async def test_each_source_is_searched_for_its_own_documents() -> None:
    tenant = shop()
    asked = await ask(tenant, QUESTION)
    prefixes = {search.ids.prefix for search in tenant.search.queries if search.ids is not None}
    assert prefixes == {"", "reviews:", "stores:"}
    assert states(asked) == {
        "catalogue": "answered",
        "reviews": "answered",
        "stores": "answered",
        "orders": "not_asked",
    }
    assert asked.text == REFILL


async def test_the_record_keeps_what_each_source_mattered() -> None:
    asked = await ask(shop(), QUESTION)
    assert asked.kept.asked == asked.done.asked
    assert sum(one.weight for one in asked.kept.asked) == pytest.approx(1.0, abs=0.001)


async def test_a_source_that_fails_is_left_out_and_named() -> None:
    tenant = shop()
    tenant.search.failing["reviews:"] = SearchUnavailableError("It failed.")
    asked = await ask(tenant, QUESTION)
    assert states(asked)["reviews"] == "failed"
    assert asked.text == REFILL


async def test_a_source_that_takes_longer_than_its_limit_is_left_out_and_named() -> None:
    tenant = shop()
    tenant.search.hanging.add("reviews:")
    asked = await ask(tenant, QUESTION)
    assert states(asked)["reviews"] == "late"
    assert asked.text == REFILL


async def test_a_source_without_documents_answers_empty() -> None:
    asked = await ask(shop(SHOP[0], SHOP[1]), QUESTION)
    assert states(asked)["stores"] == "empty"


async def test_where_no_source_answers_the_question_fails() -> None:
    tenant = shop()
    for prefix in ("", "reviews:", "stores:"):
        tenant.search.failing[prefix] = SearchUnavailableError("It failed.")
    with pytest.raises(SearchUnavailableError):
        await ask(tenant, QUESTION)


async def test_a_tenant_with_one_source_is_searched_once_and_tells_nothing_of_sources() -> None:
    tenant = FakeTenant()
    asked = await ask(tenant, QUESTION)
    assert [search.ids for search in tenant.search.queries] == [None]
    assert (asked.done.asked, asked.kept.asked) == ((), ())


async def test_one_source_of_documents_beside_a_live_one_is_searched_as_before() -> None:
    tenant = shop(document(), sources=[SOURCES[0], SOURCES[3]])
    asked = await ask(tenant, QUESTION)
    assert [search.ids for search in tenant.search.queries] == [None]
    assert [one.name for one in asked.done.asked] == ["catalogue", "orders"]


async def test_a_source_that_fails_again_and_again_is_not_asked_for_a_while() -> None:
    tenant = shop()
    tenant.search.failing["reviews:"] = SearchUnavailableError("It failed.")
    sources = AskSources(tenant.services)
    for _ in range(FAILURES_TO_OPEN + 2):
        found = await sources.search(
            query(QUESTION, vector_of(QUESTION)), deadline=Deadline.after(60, clock=tenant.clock)
        )
        assert found.states["reviews"] == "failed"
    asked = [search.ids.prefix for search in tenant.search.queries if search.ids is not None]
    assert asked.count("reviews:") == FAILURES_TO_OPEN
    assert asked.count("stores:") == FAILURES_TO_OPEN + 2


async def test_ten_procedures_are_candidates_beside_ten_thousand_reviews(tmp_path: Path) -> None:
    """Each review is nearer to the question than any procedure."""
    reviews = [(passage(f"reviews:r{number}", text="Refund a parcel"), EAST) for number in range(10_000)]
    rules = [(passage(f"p{number}", text="A parcel"), NORTH) for number in range(10)]
    index = IndexFolder(tmp_path)
    await index.put(*reviews, *rules)
    tenant = shop(sources=[one | {"deadline_s": 10.0} for one in SOURCES[:2]])
    tenant.configure(limits={"search_timeout_s": 10.0})
    sources = AskSources(replace(tenant.services, search=index.search_side))
    asked = query("Refund a parcel", EAST, leg_size=100)
    found = await sources.search(asked, deadline=Deadline.after(60, clock=tenant.clock))
    await index.close()
    of_source = Counter(id_prefix_of(hit.document_id) for hit in found.retrieved.documents)
    assert of_source[""] == 10
    assert 0 < of_source["reviews:"] <= 5 * sources.leg_size(100)


async def test_the_documents_read_are_not_all_of_one_source() -> None:
    reviews = [
        document(f"reviews:r{number}", "May a parcel be refunded?", title="Parcel") for number in range(9)
    ]
    tenant = shop(*reviews, *(document(f"p{number}", "A refund.", title="Rule") for number in range(9)))
    await ask(tenant, "May a parcel be refunded?")
    read = [id_prefix_of(name) for name in tenant.search.read[-1]]
    assert len(read) == DOCUMENTS_READ_OF_SOURCES
    assert read.count("") >= 2


async def test_a_source_of_a_shop_shows_its_facts() -> None:
    kettle = document("kettle", REFILL, title="Refill rules")
    price = Decimal("49.90")
    item = ItemFacts(item_id="k2", brand="Aurelo", price=price, currency="EUR", rating=4.5, ratings=8)
    tenant = shop(replace(kettle, card=replace(kettle.card, item=item)), SHOP[1])
    asked = await ask(tenant, QUESTION)
    facts = {source.document_id: source.facts for source in asked.sources.sources}
    shown = SourceFacts(item_id="k2", price=price, currency="EUR", rating=4.5, ratings=8)
    assert facts == {"kettle": shown, "reviews:r1": None}


# --- a live system that has nearly all of the share -------------------------------------------------------
IN_STOCK = "Is the kettle in stock?"
KNOWS_STOCK = replace(STOCK, name="orders.stock", source="orders", about=(IN_STOCK,))


async def asked_with(tenant: FakeTenant, question: str, *, weights: dict[str, float]) -> Asked:
    """Ask with a router that gives each source this raw score."""
    tenant.live_elements = FakeLive(offered=(KNOWS_STOCK,), by_word={question: STATE})
    names = [str(one["name"]) for one in SOURCES]
    content = {
        "sources": names,
        "embedding_model": tenant.config.embedding.model,
        "bias": [weights.get(name, 0.0) for name in names],
        "vector": [[0.0] * len(vector_of("a"))] * len(names),
        "words": {},
        "fitted_on": "a test",
    }
    adaptations = Adaptations(tenant.config, desk=None, embedder=tenant.embedder, clock=tenant.clock)
    adaptations.now = replace(adaptations.now, router=read_router(orjson.dumps(content)))
    use_case = AnswerQuestion(tenant.services, adaptations)
    asking = AnswerRequest(question=question)
    prepared = await use_case.prepare(asking, identity=agent(), deadline=deadline(tenant))
    async with aclosing(use_case.stream(prepared)) as events:
        return Asked([event async for event in events], prepared, tenant)


STATE = ElementData(values=(ElementValue(name="state", label="Stock", text="In stock"),))
LOW = document("reviews:r2", "The kettle is in stock again, and it leaks.", title="Kettle: in stock")


async def test_a_source_with_next_to_no_share_says_nothing_beside_the_live_values() -> None:
    answered = await asked_with(shop(LOW), IN_STOCK, weights={"orders": 12.0})
    assert answered.text == "[stock]"
    assert [one.name for one in answered.elements if one.data is not None] == ["orders.stock"]
    assert answered.done.certainty is Certainty.ANSWERED


@pytest.mark.parametrize("weights", [{"orders": 2.0}, {"orders": 12.0, "reviews": 9.0}])
async def test_a_source_with_some_share_is_quoted_beside_the_live_values(weights: dict[str, float]) -> None:
    answered = await asked_with(shop(LOW), IN_STOCK, weights=weights)
    assert "it leaks" in answered.text


async def test_without_a_live_read_the_documents_answer_whatever_the_shares() -> None:
    answered = await asked_with(shop(LOW), "How much water leaks out of it again?", weights={"orders": 12.0})
    assert "it leaks" in answered.text
