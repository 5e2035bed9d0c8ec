"""What is asked of the embedder and the index; each of several sources under its own limit and circuit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.call import AnswerCall
from assistant.answer.embed import EmbedTexts
from assistant.answer.find import FAILURES_TO_OPEN, SourceSearch
from assistant.answer.message import PartQuery
from assistant.answer.scores import CosineScale
from assistant.domain.answers import SourceFacts
from assistant.domain.clock import Deadline
from assistant.domain.documents import ItemFacts, StoredDocument, id_prefix_of
from assistant.domain.errors import SearchUnavailableError
from assistant.evaluation.judging import untraced
from tests.contracts.samples import EAST, NORTH, passage
from tests.fakes.answering import FakeTenant, document, vector_of
from tests.unit.answer.asking_and_reading import Asked, ask
from tests.unit.stores.index_folder import IndexFolder

REFILL = "Retail refills are payable on day 23 of 30."
SHOP = (
    document("kettle", REFILL, title="Refill rules"),
    document("reviews:r1", "The kettle is quiet.", title="Kettle: quiet"),
    document("stores:s1", "Open until nine.", title="Opening hours"),
)
SOURCES: list[dict[str, object]] = [
    {"name": "catalogue", "access": "everyone", "namespace": "", "kind": "catalogue"},
    {"name": "reviews", "access": "everyone", "kind": "reviews", "deadline_s": 0.05},
    {"name": "stores", "access": "everyone", "kind": "community"},
]
QUESTION = "On which day are retail refills payable?"


def shop(*documents: StoredDocument, sources: list[dict[str, object]] | None = None) -> FakeTenant:
    tenant = FakeTenant().with_documents(*(documents or SHOP))
    config = tenant.config.model_dump() | {"sources": sources or SOURCES}
    tenant.config = type(tenant.config).model_validate(config)
    return tenant


def call_of(tenant: FakeTenant) -> AnswerCall:
    return untraced(Deadline.after(60, clock=tenant.clock))


def states(asked: Asked) -> dict[str, str]:
    return {one.name: one.state for one in asked.done.asked}


async def test_each_source_is_searched_for_its_own_documents() -> None:
    tenant = shop()
    asked = await ask(tenant, QUESTION)
    prefixes = {search.ids.prefix for search in tenant.search.queries if search.ids is not None}
    assert prefixes == {"", "reviews:", "stores:"}
    assert states(asked) == {
        "catalogue": "answered",
        "reviews": "answered",
        "stores": "answered",
    }
    assert asked.text == REFILL


async def test_a_source_that_fails_is_left_out_and_named() -> None:
    tenant = shop()
    tenant.search.failing["reviews:"] = SearchUnavailableError("It failed.")
    asked = await ask(tenant, QUESTION)
    assert states(asked)["reviews"] == "failed"
    assert asked.kept.degraded == ("source reviews",)
    assert asked.text == REFILL


async def test_a_source_that_takes_longer_than_its_limit_is_left_out_and_named() -> None:
    tenant = shop()
    tenant.search.hanging.add("reviews:")
    asked = await ask(tenant, QUESTION)
    assert states(asked)["reviews"] == "late"
    assert asked.text == REFILL


async def test_where_no_source_answers_the_question_fails() -> None:
    tenant = shop()
    for prefix in ("", "reviews:", "stores:"):
        tenant.search.failing[prefix] = SearchUnavailableError("It failed.")
    with pytest.raises(SearchUnavailableError):
        await ask(tenant, QUESTION)


async def test_a_source_that_fails_again_and_again_is_not_asked_for_a_while() -> None:
    tenant = shop()
    tenant.search.failing["reviews:"] = SearchUnavailableError("It failed.")
    search = SourceSearch(tenant.services)
    for _ in range(FAILURES_TO_OPEN + 2):
        found = await search.run(QUESTION, vector=vector_of(QUESTION), call=call_of(tenant))
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
    search = SourceSearch(replace(tenant.services, search=index.search_side))
    found = await search.run("Refund a parcel", vector=EAST, call=call_of(tenant))
    await index.close()
    of_source = Counter(id_prefix_of(hit.document_id) for hit in found.retrieved.documents)
    assert of_source[""] == 10
    assert 0 < of_source["reviews:"] <= 5 * tenant.config.retrieval.leg_size // 2


async def test_a_source_of_a_shop_shows_its_facts() -> None:
    kettle = document("kettle", REFILL, title="Refill rules")
    price = Decimal("49.90")
    item = ItemFacts(item_id="k2", brand="Aurelo", price=price, currency="EUR", rating=4.5, ratings=8)
    tenant = shop(replace(kettle, card=replace(kettle.card, item=item)), SHOP[1])
    asked = await ask(tenant, QUESTION)
    facts = {source.document_id: source.facts for source in asked.sources.sources}
    shown = SourceFacts(item_id="k2", price=price, currency="EUR", rating=4.5, ratings=8)
    assert facts == {"kettle": shown, "reviews:r1": None}


# --- one search ---------------------------------------------------------------------------------------------


async def test_a_text_over_the_model_s_limit_has_the_mean_of_its_pieces() -> None:
    tenant = FakeTenant()
    tenant.embedder.too_long_words = 3
    texts = ["refill", "refill claim parcel transfer"]
    short, vector = (await EmbedTexts(tenant.services).run(texts, call_of(tenant))).values()
    assert short == pytest.approx(vector_of("refill"))
    halves = [vector_of("refill claim"), vector_of("parcel transfer")]
    mean = [one + other for one, other in zip(*halves, strict=True)]
    length = sum(value * value for value in mean) ** 0.5
    assert vector == pytest.approx([value / length for value in mean])


async def test_cosines_of_another_model_are_weighed_on_the_scale_of_the_weights() -> None:
    tenant = FakeTenant().with_documents(SHOP[0])
    raw = (await ask(tenant, QUESTION)).quote.parts[0].finding.retrieved.hits
    tenant.configure(embedding={"cosine_unrelated": 0.49, "cosine_related": 0.74})
    scaled = (await ask(tenant, QUESTION)).quote.parts[0].finding.retrieved.hits
    scale = CosineScale.of(tenant.config.embedding)
    asked, weighed = [hit.cosine for hit in raw], [hit.cosine for hit in scaled]
    assert weighed == [cosine and scale.value(cosine) for cosine in asked]
    assert weighed != asked


async def test_of_what_options_offer_the_first_that_answers_is_the_last_that_is_asked() -> None:
    tenant, asked = FakeTenant().with_documents(SHOP[0]), list[str]()

    def offer(name: str, *, answers: bool) -> Any:
        async def find(*_: object, **__: object) -> Any:
            asked.append(name)
            return SimpleNamespace(answers=answers)

        return SimpleNamespace(find=find, named=lambda *_, **__: None)

    answer = AnswerQuestion(tenant.services)
    kinds = {"beside": False, "table": True, "last": True}
    answer.adaptations.offers = tuple(offer(name, answers=answers) for name, answers in kinds.items())
    query = PartQuery(QUESTION, vector_of(QUESTION))
    [finding] = await answer.find.run([query], call_of(tenant))
    assert asked == ["beside", "table"]
    assert [offered.answers for offered in finding.offered] == [False, True]
