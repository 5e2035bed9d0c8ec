"""What is asked of the embedder and the index; each source under its own limit; vectors of single units."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from assistant.answer import scores
from assistant.answer.call import AnswerCall
from assistant.answer.embed import EmbedTexts
from assistant.answer.find import FAILURES_TO_OPEN, SourceSearch
from assistant.answer.scores import UNITS_EMBEDDED, CosineScale, ScoredUnit, UnitVectors
from assistant.domain.answers import SourceFacts
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import ItemFacts, Span, StoredDocument, Unit, UnitKind, embedding_input
from assistant.domain.errors import SearchUnavailableError
from assistant.evaluation.judging import untraced
from tests.stage.answering import FakeEmbedder, FakeTenant, Gate, cosine, document, passage, vector_of
from tests.unit.answer.asking_and_reading import Asked, ask

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


@pytest.mark.parametrize("state", ["failed", "late"])
async def test_a_source_that_does_not_answer_in_time_is_left_out_and_named(state: str) -> None:
    tenant = shop()
    if state == "late":
        tenant.search.hanging.add("reviews:")
    else:
        tenant.search.failing["reviews:"] = SearchUnavailableError("It failed.")
    asked = await ask(tenant, QUESTION)
    assert states(asked)["reviews"] == state
    assert asked.kept.degraded == ("source reviews",)
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


async def test_a_source_of_a_shop_shows_its_facts() -> None:
    kettle = document("kettle", REFILL, title="Refill rules")
    price = Decimal("49.90")
    item = ItemFacts(item_id="k2", brand="Aurelo", price=price, currency="EUR", rating=4.5, ratings=8)
    tenant = shop(replace(kettle, card=replace(kettle.card, item=item)), SHOP[1])
    asked = await ask(tenant, QUESTION)
    facts = {source.document_id: source.facts for source in asked.sources.sources}
    shown = SourceFacts(item_id="k2", price=price, currency="EUR", rating=4.5, ratings=8)
    assert facts == {"kettle": shown, "reviews:r1": None}


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


ASKED = "When are refills payable?"


def units(*texts: str) -> list[Unit]:
    return [
        Unit(ordinal=n, kind=UnitKind.SENTENCE, text=text, span=Span(0, len(text)), heading="")
        for n, text in enumerate(texts)
    ]


REFILLS = units("Refills are payable on day 23.", "Parcels wait.")


def scored(asked: Sequence[Unit]) -> list[ScoredUnit]:
    """Return the units, each less likely than the one before it."""
    return [ScoredUnit(unit, passage(), -float(at)) for at, unit in enumerate(asked)]


def placed(*texts: str) -> list[str]:
    """Return the texts as they are embedded: under the document's title."""
    return [embedding_input(title="Refills", heading="", text=text) for text in texts]


async def cosines(
    vectors: UnitVectors,
    asked: Sequence[Unit] = REFILLS,
    *,
    content_hash: str = "1",
    seconds: float = 5.0,
) -> Mapping[int, float]:
    deadline = Deadline.after(seconds, clock=SystemClock())
    card = replace(document("refills", title="Refills").card, content_hash=content_hash)
    wanted = [(card, scored(asked))]
    found = await vectors.cosines(vector_of(ASKED), wanted, deadline=deadline)
    return found.get("refills", {})


def made(embedder: FakeEmbedder, *, limit_s: float = 5.0) -> UnitVectors:
    return UnitVectors(embedder, limit_s=limit_s)


async def test_each_unit_has_its_cosine_with_the_question() -> None:
    found = await cosines(made(FakeEmbedder()))
    texts = placed(*(unit.text for unit in REFILLS))
    expected = {
        unit.ordinal: cosine(vector_of(ASKED), text) for unit, text in zip(REFILLS, texts, strict=True)
    }
    assert found == pytest.approx(expected, abs=1e-6)


async def test_vectors_that_are_kept_are_not_asked_for_again() -> None:
    embedder = FakeEmbedder()
    vectors = made(embedder)
    first = await cosines(vectors)
    assert await cosines(vectors) == first
    await cosines(vectors, units("Refills are payable on day 23.", "Parcels wait.", "Call."))
    assert embedder.texts == [placed("Refills are payable on day 23.", "Parcels wait."), placed("Call.")]


async def test_only_the_likeliest_units_get_a_vector() -> None:
    embedder = FakeEmbedder()
    many = units(*(f"Unit {number}." for number in range(UNITS_EMBEDDED + 3)))
    assert set(await cosines(made(embedder), many)) == set(range(UNITS_EMBEDDED))


async def test_a_unit_that_its_passage_cuts_gets_none() -> None:
    embedder = FakeEmbedder()
    cut, whole = units("Refills are payable on day 23.", "Parcels wait.")
    cut = replace(cut, span=Span(0, passage().span.end + 1))
    assert set(await cosines(made(embedder), [cut, whole])) == {1}
    assert embedder.texts == [placed("Parcels wait.")]


async def test_vectors_that_another_question_pushed_out_meanwhile_are_still_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "MOST_UNIT_VECTORS", 2)
    gate = Gate()

    class Waiting(FakeEmbedder):
        async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
            if placed("New.")[0] in texts:
                gate.reached.set()
                await gate.opened.wait()
            return await super().embed(texts, deadline=deadline)

    vectors = made(Waiting())
    kept, new = units("Kept.", "New.")
    await cosines(vectors, [kept])
    waiting = asyncio.create_task(cosines(vectors, [kept, new]))
    await asyncio.wait_for(gate.reached.wait(), 60)
    await cosines(vectors, units("One.", "Two."), content_hash="other")
    gate.opened.set()
    assert set(await asyncio.wait_for(waiting, 60)) == {0, 1}
