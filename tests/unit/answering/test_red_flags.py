"""Messages about the emergencies of the tenant file raise their red flags; ordinary ones raise none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from assistant.answering.red_flags import Head, RedFlags, ordinary_messages, shipped_head
from assistant.domain.answers import RedFlag
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.settings.tenant import RedFlagEntry, TenantConfig, load_tenant
from tests.fakes.answering import FakeEmbedder, vector_of
from tests.fakes.clock import SteppedClock

FIRE = RedFlagEntry(
    name="fire",
    examples=tuple(f"{word} flames smoke kitchen burning" for word in ("big", "red", "hot", "wild", "near")),
    text="Leave the house.",
    call="911",
)
FLOOD = RedFlagEntry(
    name="flood",
    examples=tuple(f"{word} cellar water river rising" for word in ("deep", "cold", "brown", "fast", "much")),
    text="Go upstairs.",
    call="The flood line",
)
TENANT = TenantConfig(schema_version=1, name="clinic", display_name="Clinic", red_flags=(FIRE, FLOOD))


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def flags(embedder: FakeEmbedder, clock: SteppedClock) -> RedFlags:
    return RedFlags(TENANT, embedder=embedder, clock=clock)


async def test_a_message_near_the_examples_raises_their_flag(flags: RedFlags) -> None:
    await flags.load()
    raised = flags.raised(vector_of("flames and smoke in her kitchen"))
    assert raised == (RedFlag(name="fire", text="Leave the house.", call="911"),)


@pytest.mark.parametrize(
    ("scores", "names"),
    [
        ([0.0, 3.0, 2.8], ["fire", "flood"]),
        ([0.0, 2.8, 3.0], ["flood", "fire"]),
        ([0.0, 3.0, 1.0], ["fire"]),
        ([5.0, 3.0, 2.8], []),
    ],
)
def test_the_likeliest_flag_is_raised_first_and_another_only_with_a_quarter_of_the_probability(
    flags: RedFlags, monkeypatch: pytest.MonkeyPatch, scores: list[float], names: list[str]
) -> None:
    monkeypatch.setattr(Head, "scores", lambda self, vector: scores)
    monkeypatch.setattr(flags, "_head", SimpleNamespace(value=Head(mean=[], scale=1.0, rows=[])))
    assert [flag.name for flag in flags.raised([1.0])] == names


async def test_nothing_is_raised_before_the_flags_are_loaded(flags: RedFlags) -> None:
    assert not flags.is_ready
    assert flags.raised(vector_of("flames and smoke")) == ()


async def test_examples_are_embedded_once(flags: RedFlags, embedder: FakeEmbedder) -> None:
    await flags.load()
    await flags.load()
    texts = [text for batch in embedder.texts for text in batch]
    assert flags.is_ready
    assert texts == [*ordinary_messages(), *FIRE.examples, *FLOOD.examples]


def shipped_tenant(*names: str, model: str = "") -> TenantConfig:
    flags = tuple(FIRE.model_copy(update={"name": name}) for name in names)
    embedding = TENANT.embedding.model_copy(update={"model": model or shipped_head().embedding_model})
    return TENANT.model_copy(update={"red_flags": flags, "embedding": embedding})


async def test_the_shipped_head_serves_a_tenant_with_some_of_its_flags_without_embedding(
    embedder: FakeEmbedder, clock: SteppedClock
) -> None:
    flags = RedFlags(shipped_tenant("stroke", "bleeding"), embedder=embedder, clock=clock)
    await flags.load()
    assert (flags.is_ready, embedder.texts) == (True, [])


@pytest.mark.parametrize(
    "tenant", [shipped_tenant("stroke", "fire"), shipped_tenant("stroke", "bleeding", model="another")]
)
async def test_another_flag_or_model_is_fitted_from_examples(
    tenant: TenantConfig, embedder: FakeEmbedder, clock: SteppedClock
) -> None:
    flags = RedFlags(tenant, embedder=embedder, clock=clock)
    assert not flags.is_ready
    await flags.load()
    assert flags.is_ready
    assert embedder.texts


async def test_a_failure_is_retried_after_a_pause_and_raises_nothing(
    flags: RedFlags, embedder: FakeEmbedder, clock: SteppedClock
) -> None:
    embedder.error = EmbeddingUnavailableError("away")
    await flags.load()
    await flags.load()
    assert (len(embedder.texts), flags.is_ready) == (1, False)

    embedder.error = None
    clock.step(15.0)
    await flags.load()
    assert flags.is_ready


async def test_a_tenant_without_red_flags_embeds_nothing(embedder: FakeEmbedder, clock: SteppedClock) -> None:
    flags = RedFlags(TENANT.model_copy(update={"red_flags": ()}), embedder=embedder, clock=clock)
    await flags.load()
    assert flags.is_ready
    assert flags.raised(vector_of("flames")) == ()
    assert embedder.texts == []


def test_no_ordinary_message_is_over_the_packaged_models_limit() -> None:
    assert max(len(text) for text in ordinary_messages()) <= 600


def test_the_shipped_flags_name_whom_to_call() -> None:
    for name in ("pharmacy", "clinic"):
        tenant = load_tenant(Path(__file__).parents[3] / "tests/tenants" / f"{name}.toml")
        assert len(tenant.red_flags) == 12
        assert all(any(desk in flag.call for desk in ("911", "988")) for flag in tenant.red_flags)
