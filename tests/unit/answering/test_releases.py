"""Released ranker weights: who is served by which, and what may not serve."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assistant.answering.adaptations import Releases, read_releases
from assistant.domain.desk import DeskKind, RankerRelease, ReleaseState
from tests.fakes.desk import AT, WEIGHTS, FakeDesk, release

OTHER = WEIGHTS.replace("1.0", "2.0")
CONVERSATIONS = [f"conversation-{number}" for number in range(2_000)]


async def read(*bodies: RankerRelease) -> Releases:
    """Return the releases of items that were made in this order."""
    desk = FakeDesk()
    for number, body in enumerate(bodies):
        desk.add(body, item_id=f"release-{number}")
    return read_releases(await desk.list(DeskKind.RANKER_RELEASE))


def trial(**changes: object) -> RankerRelease:
    return release(OTHER, **{"state": ReleaseState.TRIAL, "share_percent": 20, **changes})


async def test_a_live_release_serves_every_conversation() -> None:
    releases = await read(release())
    served = releases.ranking_of("any", now=AT)
    assert served.weights is not None
    assert served.weights.sha256 == release().artifact_hash
    assert served.propensity == 1.0


async def test_without_a_release_the_shipped_weights_serve() -> None:
    served = (await read()).ranking_of("any", now=AT)
    assert (served.weights, served.propensity) == (None, 1.0)


async def test_a_trial_serves_its_share_of_conversations_and_says_how_likely_that_was() -> None:
    releases = await read(release(), trial())
    served = [releases.ranking_of(one, now=AT) for one in CONVERSATIONS]
    hashes = [one.weights.sha256 if one.weights else None for one in served]
    in_trial = [one for one, digest in zip(served, hashes, strict=True) if digest == trial().artifact_hash]
    assert 0.17 < len(in_trial) / len(served) < 0.23
    assert {one.propensity for one in in_trial} == {0.2}
    assert {one.propensity for one in served if one not in in_trial} == {0.8}


async def test_a_conversation_stays_in_its_part_of_a_trial() -> None:
    releases = await read(trial())
    assert len({releases.ranking_of("one", now=AT) for _ in range(5)}) == 1


async def test_each_trial_takes_other_conversations() -> None:
    first, second = await read(trial()), await read(release(state=ReleaseState.TRIAL, share_percent=20))
    places = [
        {one for one in CONVERSATIONS if releases.ranking_of(one, now=AT).weights is not None}
        for releases in (first, second)
    ]
    assert len(places[0] & places[1]) < 0.5 * len(places[0])


async def test_a_trial_ends_at_its_time() -> None:
    releases = await read(trial(share_percent=100, trial_ends_at=AT))
    assert releases.ranking_of("any", now=AT - timedelta(seconds=1)).weights is not None
    assert releases.ranking_of("any", now=AT).weights is None


async def test_a_refused_and_a_rolled_back_release_do_not_serve() -> None:
    states = (ReleaseState.REFUSED, ReleaseState.ROLLED_BACK, ReleaseState.REPLACED)
    releases = await read(*(release(state=state) for state in states))
    assert (releases.live, releases.trial, releases.refused) == (None, None, 0)


@pytest.mark.parametrize(
    "faulty",
    [
        pytest.param(release(artifact_hash="1" * 64), id="another hash"),
        pytest.param(release(WEIGHTS.replace("title_cosine", "moon")), id="an unknown feature"),
        pytest.param(release(WEIGHTS.replace("ranker", "gate")), id="another kind"),
        pytest.param(release("no JSON"), id="no weights"),
        pytest.param(release(report=""), id="no report"),
        pytest.param(release(report="{}"), id="an empty report"),
    ],
)
async def test_a_faulty_live_release_is_counted_and_the_weights_before_go_on(faulty: RankerRelease) -> None:
    before = release(OTHER, state=ReleaseState.REPLACED)
    releases = await read(before, faulty)
    assert releases.refused == 1
    assert releases.live is not None
    assert releases.live.sha256 == before.artifact_hash


async def test_a_faulty_trial_serves_nobody() -> None:
    releases = await read(release(), trial(artifact_hash="1" * 64, share_percent=100))
    assert (releases.trial, releases.refused) == (None, 1)
    assert releases.ranking_of("any", now=AT).propensity == 1.0


async def test_a_body_of_another_release_of_the_product_is_refused() -> None:
    desk = FakeDesk()
    desk.add(release())
    desk.items[0] = desk.items[0].model_copy(update={"body": '{"state": "live"}'})
    assert read_releases(desk.items).refused == 1
