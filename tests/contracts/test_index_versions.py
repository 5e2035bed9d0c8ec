"""What every set of versions of an index does: one is live, others are filled beside it or kept."""

from __future__ import annotations

import pytest

from assistant.domain.documents import HeldContent, IndexModel
from assistant.domain.errors import ConflictError, SearchUnavailableError
from tests.contracts.samples import EAST, documents_of, indexed, passage
from tests.contracts.twins import DIMENSIONS, EMBEDDING_MODEL, Twin

OWN = IndexModel(EMBEDDING_MODEL, DIMENSIONS)
TUNED = IndexModel(EMBEDDING_MODEL, DIMENSIONS, "other weights")
LARGER = IndexModel("model-of-six", 6)


async def test_the_version_of_the_tenant_s_own_model_is_live_at_first(twin: Twin) -> None:
    assert await twin.versions.live() == twin.versions.name_of(OWN)
    assert await twin.versions.kept() == [twin.versions.name_of(OWN)]


async def test_a_name_tells_models_dimensions_and_weights_apart(twin: Twin) -> None:
    assert len({twin.versions.name_of(model) for model in (OWN, TUNED, LARGER)}) == 3


async def test_a_created_version_is_kept_and_not_live(twin: Twin) -> None:
    for _ in range(2):
        await twin.versions.create(TUNED)
    assert await twin.versions.live() == twin.versions.name_of(OWN)
    assert await twin.versions.kept() == [twin.versions.name_of(model) for model in (OWN, TUNED)]


async def test_a_switch_makes_the_other_version_live_and_keeps_the_one_before(twin: Twin) -> None:
    await twin.versions.create(LARGER)
    await twin.versions.switch(twin.versions.name_of(LARGER), live=twin.versions.name_of(OWN))
    assert await twin.versions.live() == twin.versions.name_of(LARGER)
    assert await twin.versions.kept() == [twin.versions.name_of(model) for model in (LARGER, OWN)]


async def test_a_switch_from_what_is_not_live_is_refused(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    tuned = twin.versions.name_of(TUNED)
    with pytest.raises(ConflictError, match="The live index is"):
        await twin.versions.switch(tuned, live=tuned)
    assert await twin.versions.live() == twin.versions.name_of(OWN)


async def test_a_switch_to_a_version_that_is_not_there_changes_nothing(twin: Twin) -> None:
    own = twin.versions.name_of(OWN)
    with pytest.raises((ConflictError, SearchUnavailableError)):
        await twin.versions.switch(twin.versions.name_of(TUNED), live=own)
    assert await twin.versions.live() == own


async def test_the_live_version_cannot_be_dropped(twin: Twin) -> None:
    with pytest.raises(ConflictError, match="is live"):
        await twin.versions.drop(twin.versions.name_of(OWN))


async def test_a_dropped_version_is_gone(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    await twin.version(TUNED).replace_documents(documents_of((passage("refill"), EAST)))
    for _ in range(2):
        await twin.versions.drop(twin.versions.name_of(TUNED))
    assert await twin.versions.kept() == [twin.versions.name_of(OWN)]


async def test_a_version_tells_what_it_holds(twin: Twin) -> None:
    whole = indexed(*((passage("refill", ordinal), EAST) for ordinal in range(3)))
    await twin.index.replace_documents([whole, *documents_of((passage("other"), EAST))])
    assert await twin.index.document_ids() == ["other", "refill"]
    assert await twin.index.contents(["refill", "absent"]) == {"refill": HeldContent("hash of refill", 3)}
    (stored,) = await twin.index.read(["refill"])
    assert (stored.card, list(stored.passages)) == (whole.card, [one for one, _ in whole.passages])


async def test_an_empty_version_holds_nothing(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    version = twin.version(TUNED)
    assert (await version.document_ids(), await version.contents(["a"]), await version.read(["a"])) == (
        [],
        {},
        [],
    )


async def test_a_removal_reaches_every_version_and_a_discard_one(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    tuned = twin.version(TUNED)
    for index in (twin.index, tuned):
        await index.replace_documents(documents_of(*((passage(name), EAST) for name in ("a", "b", "c"))))
    names = [twin.versions.name_of(model) for model in (OWN, TUNED)]
    before = await twin.versions.rows_of("a")
    assert list(before) == names
    assert min(before.values()) >= 2
    await twin.index.delete_documents(["a"])
    assert await twin.versions.rows_of("a") == dict.fromkeys(names, 0)
    await tuned.discard(["b"])
    assert (await twin.versions.rows_of("b"))[names[1]] == 0
    assert await tuned.document_ids() == ["c"]
    assert await twin.index.document_ids() == ["b", "c"]


async def test_a_version_is_written_while_the_worker_has_the_own_one_open(twin: Twin) -> None:
    await twin.index.replace_documents(documents_of((passage("a"), EAST)))
    await twin.versions.create(TUNED)
    await twin.index.share()
    again = twin.version(OWN)
    await again.replace_documents(documents_of((passage("b"), EAST)))
    await twin.index.replace_documents(documents_of((passage("c"), EAST)))
    assert await twin.index.document_ids() == ["a", "b", "c"]
