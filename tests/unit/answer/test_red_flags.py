"""Messages about the emergencies of the tenant file raise their red flags; ordinary ones raise none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from assistant.answer import red_flags
from assistant.answer.red_flags import (
    STEP_WORDS,
    WINDOW_WORDS,
    FlagWeights,
    RedFlags,
    foreign_language,
    pieces,
    shipped_flag_weights,
)
from assistant.domain.answers import RedFlag
from assistant.domain.clock import Deadline
from assistant.domain.errors import EmbeddingUnavailableError
from assistant.tenant.tenant import RedFlagEntry, TenantConfig, load_tenant
from tests.stage.answering import FakeEmbedder, FakeTenant, vector_of
from tests.stage.tenant_stores import SteppedClock
from tests.unit.answer.asking_and_reading import ask

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
CLINIC = TenantConfig(schema_version=1, name="clinic", display_name="Clinic", red_flags=(FIRE, FLOOD))
TENANT = CLINIC.model_copy(update={"embedding": CLINIC.embedding.model_copy(update={"model": "another"})})
"""Of another embedding model than the weights are for: each flag is found by its examples."""


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def flags(embedder: FakeEmbedder, clock: SteppedClock) -> RedFlags:
    return RedFlags(TENANT, embedder=embedder, clock=clock)


def vectors_of(text: str) -> dict[str, list[float]]:
    return {piece: vector_of(piece) for piece in pieces(text)}


async def test_a_message_near_the_examples_raises_their_flag(flags: RedFlags) -> None:
    await flags.load()
    text = "big flames smoke in her kitchen burning"
    raised = flags.raised(text, vectors_of(text))
    assert raised == (RedFlag(name="fire", text="Leave the house.", call="911"),)
    assert flags.raised("where is my parcel", vectors_of("where is my parcel")) == ()


async def test_a_flag_by_examples_is_found_between_other_text(flags: RedFlags) -> None:
    await flags.load()
    around = "and the parcel from tuesday has not come yet although the tracking page says friday"
    text = f"{around} red flames smoke kitchen burning hot big wild now please hurry up {around}"
    mixed = {text: vector_of(around)}
    assert flags.raised(text, mixed) == ()
    assert [flag.name for flag in flags.raised(text, vectors_of(text) | mixed)] == ["fire"]


def test_a_long_message_is_read_whole_and_in_windows_that_hold_every_word() -> None:
    words = [f"word{number}" for number in range(40)]
    whole, *windows = pieces(" ".join(words))
    assert whole == " ".join(words)
    assert {len(window.split()) for window in windows} == {WINDOW_WORDS}
    assert {word for window in windows for word in window.split()} == set(words)
    assert windows[1].split()[0] == f"word{STEP_WORDS}"
    assert pieces("short of breath") == ["short of breath"]


FLAT = FlagWeights(
    embedding_model="m",
    fitted_on="",
    mean=(0.0, 0.0),
    hidden=((0.0, 0.0, 0.0),),
    outer=(0.0,),
    whole=0.0,
    grams=shipped_flag_weights().grams,
    gram_scale=0.0,
    least_score=0.0,
    flags={"fire": (3.0, 3.0, -2.0), "flood": (0.0, -3.0, -2.0), "storm": (3.0, 2.9, -2.0)},
    with_prior=shipped_flag_weights().with_prior,
    alone=shipped_flag_weights().alone,
)
"""Fire and storm by both values of a vector; which of them, by the second."""


def test_only_a_message_that_the_weights_call_an_emergency_raises_its_flags(
    embedder: FakeEmbedder, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(red_flags, "shipped_flag_weights", lambda: FLAT)
    flags = RedFlags(shipped_tenant("fire", "flood", model="m"), embedder=embedder, clock=clock)
    assert flags.raised("calm", {"calm": (-1.0, 0.0)}) == ()
    assert [flag.name for flag in flags.raised("flames", {"flames": (1.0, 1.0)})] == ["fire"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("no puedo respirar bien y me duele mucho el pecho, que hago", "es"),
        ("mon fils a avale des comprimes et il ne se reveille pas", "fr"),
        ("pt wants to cancel order asap", None),
        ("wife says hes swetaing n talkign nonsens, wont drnik juice", None),
        ("rts 79 on lisinopril, hes flying to mexico tmrw", None),
        ("4471-2208", None),
    ],
)
async def test_only_a_message_in_another_language_is_unchecked(
    flags: RedFlags, text: str, language: str | None
) -> None:
    assert foreign_language(text) == flags.unchecked_language(text) == language


def shipped_tenant(*names: str, model: str = "") -> TenantConfig:
    flags = tuple(FIRE.model_copy(update={"name": name}) for name in names)
    embedding = TENANT.embedding.model_copy(update={"model": model or shipped_flag_weights().embedding_model})
    return TENANT.model_copy(update={"red_flags": flags, "embedding": embedding})


async def test_the_shipped_weights_serve_a_tenant_with_some_of_its_flags_without_embedding(
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
    assert (flags.pieces("flames"), flags.raised("flames", {}), embedder.texts) == ([], (), [])
    assert flags.unchecked_language("no puedo respirar, que hago ahora mismo") is None


LONG = "where is her parcel it was to come on tuesday and the tracking page says it is still in memphis"


def flagged_tenant() -> FakeTenant:
    tenant = FakeTenant()
    tenant.config = tenant.config.model_copy(
        update={"red_flags": (FIRE,), "embedding": TENANT.embedding.model_copy(update={"model": "another"})}
    )
    return tenant


async def test_an_answer_embeds_the_windows_of_its_message_by_a_call_beside_the_search() -> None:
    tenant = flagged_tenant()
    assert (await ask(tenant, LONG)).done.degraded == ()
    assert [batch for batch in tenant.embedder.texts if pieces(LONG)[1] in batch] == [pieces(LONG)[1:]]


class NoWindows(FakeEmbedder):
    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        if pieces(LONG)[1] in texts:
            raise EmbeddingUnavailableError("away")
        return await super().embed(texts, deadline=deadline)


async def test_an_answer_whose_windows_are_not_embedded_is_read_whole_and_says_so() -> None:
    tenant = flagged_tenant()
    tenant.embedder = NoWindows()
    assert (await ask(tenant, LONG)).done.degraded == ("red flags",)


def test_the_shipped_flags_name_whom_to_call() -> None:
    for name in ("pharmacy", "clinic"):
        tenant = load_tenant(Path(__file__).parents[3] / "tests/tenants" / f"{name}.toml")
        assert len(tenant.red_flags) == 12
        assert all(any(desk in flag.call for desk in ("911", "988")) for flag in tenant.red_flags)
