"""What the feedback store does."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.answers import VerdictLabel
from assistant.domain.errors import InvalidRequestError
from assistant.options.desk.events import FeedbackEvent, FeedbackKind, FeedbackText, SealedText, ShownDocument
from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS, StoredFeedback, seal, unseal
from assistant.process.aws import open_client
from assistant.stores.events import StoredErasureKeys
from assistant.stores.s3 import S3Blobs
from tests.contracts import samples
from tests.contracts.twins import tenant_name
from tests.stage.aws_server import REGION
from tests.stage.tenant_stores import TenantStores


def event(
    number: int = 1, *, minute: int = 0, tenant: str = "clinic", shown: Sequence[str] = ("refill",)
) -> FeedbackEvent:
    """Return a good verdict, the one of that number, on an answer that quoted the first document."""
    at = samples.NOON + timedelta(minutes=minute)
    documents = tuple(
        ShownDocument(
            document_id=document_id,
            position=position,
            score=1.0 / position,
            features={"bm25": 2.5},
            is_listed=True,
            is_quoted=position == 1,
        )
        for position, document_id in enumerate(shown, 1)
    )
    return FeedbackEvent(
        event_id=f"{number:064x}",
        kind=FeedbackKind.VERDICT,
        at=at,
        tenant=tenant,
        answer_id=f"a{number}",
        conversation="0" * 32,
        agent="1" * 32,
        asked_at=at,
        documents=documents,
        prompt_id="answer/1",
        model_id="model",
        index_version="v1",
        settings_hash="hash",
        label=VerdictLabel.GOOD,
    )


def sealed_text(number: int = 1, *, subjects: Sequence[str] = ("document:refill",)) -> SealedText:
    return SealedText(text_id=f"{number:064x}", at=samples.NOON, subjects=tuple(subjects), sealed="c2VhbGVk")


DAY = timedelta(days=1)
EVENTS = "events/dt=2026-11-20/"


@dataclass
class Tombstones(StoredErasureKeys):
    """Keys of erasure of which some are destroyed."""

    at: dict[str, datetime] = field(default_factory=dict[str, datetime])

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        raise AssertionError("a reader needs no keys")

    async def destroy(self, subject: str) -> bool:
        raise AssertionError("a reader destroys nothing")

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        return {subject: self.at[subject] for subject in subjects if subject in self.at}


def store_of(stores: TenantStores, keys: Tombstones | None = None) -> StoredFeedback:
    return StoredFeedback(stores.feedback_files, tenant="clinic", keys=keys or Tombstones())


async def read(
    store: StoredFeedback, *, since: datetime = samples.NOON - DAY, until: datetime = samples.NOON + DAY
) -> list[FeedbackEvent]:
    return [event async for event in store.read(since, until)]


async def keys_in(stores: TenantStores, prefix: str) -> list[str]:
    return sorted([found.key async for found in stores.feedback_files.list(prefix)])


async def test_events_come_back_by_time_whatever_group_they_came_in(stores: TenantStores) -> None:
    store = store_of(stores)
    late, first, last = (event(1, minute=5), event(2), event(3, minute=24 * 60 - 1))
    await store.append([last, first], [])
    await store.append([late], [])
    assert await read(store) == [first, late, last]


async def test_an_event_that_came_twice_is_read_once(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([event(1), event(2)], [])
    await store.append([event(1)], [])
    await store.append([event(1).model_copy(update={"at": samples.NOON + DAY / 2})], [])
    assert await read(store) == [event(1), event(2)]


async def test_the_same_group_again_is_one_file(stores: TenantStores) -> None:
    store = store_of(stores)
    for _ in range(2):
        await store.append([event(1), event(2)], [sealed_text()])
    assert len(await keys_in(stores, EVENTS)) == 1
    assert await keys_in(stores, "texts/") == [f"texts/00/{1:064x}.json"]


async def test_only_the_time_asked_for_is_read(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([event(n, minute=n) for n in range(4)], [])
    since, until = samples.NOON + timedelta(minutes=1), samples.NOON + timedelta(minutes=3)
    assert await read(store, since=since, until=until) == [event(n, minute=n) for n in (1, 2)]


async def test_sealed_texts_come_back_by_id(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([], [sealed_text(1), sealed_text(2, subjects=("patient:ab",))])
    one, other = sealed_text(1).text_id, sealed_text(2).text_id
    assert await store.texts([one, "f" * 64]) == {one: sealed_text(1)}
    assert await store.texts_about("patient:ab") == [other]


def line(**changed: object) -> bytes:
    return orjson.dumps(event().model_dump(mode="json") | changed)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (line(schema_version=2), "schema_version 2"),
        (line(tenant="pharmacy"), "is of the tenant pharmacy, not of clinic"),
        (line()[:-20], "line is damaged"),
        (b"[]", "line is no event"),
        (line(kind="guess"), "kind"),
    ],
)
async def test_a_line_that_is_not_ours_to_read_is_refused_by_name(
    stores: TenantStores, second: bytes, said: str
) -> None:
    await stores.feedback_files.add(f"{EVENTS}abc.jsonl", line() + b"\n" + second + b"\n")
    with pytest.raises(InvalidRequestError) as raised:
        await read(store_of(stores))
    assert raised.value.message.startswith(f"{EVENTS}abc.jsonl, line 2: ")
    assert said in raised.value.message


async def test_a_withdrawn_document_s_signals_go_with_it(stores: TenantStores) -> None:
    store = store_of(stores, Tombstones({"document:gone": samples.NOON + DAY}))
    about_it, beside_it = (event(1, shown=("gone", "refill")), event(2, shown=("refill", "gone")))
    opened = event(3).model_copy(update={"opened": "gone"})
    await store.append([about_it, beside_it, opened], [])
    (left,) = await read(store)
    assert left == beside_it.model_copy(update={"documents": beside_it.documents[:1]})


async def test_a_document_that_was_added_again_has_signals_again(stores: TenantStores) -> None:
    store = store_of(stores, Tombstones({"document:refill": samples.NOON + timedelta(minutes=5)}))
    before, after = event(1), event(2, minute=10)
    await store.append([before, after], [])
    assert await read(store) == [after]


async def test_another_tenant_s_feedback_is_unknown(stores: TenantStores, tmp_path: Path) -> None:
    stranger = TenantStores(tmp_path / "stranger")
    await store_of(stores).append([event()], [sealed_text()])
    assert await read(store_of(stranger)) == []
    assert await store_of(stranger).texts([sealed_text().text_id]) == {}
    await stranger.close()


KEYS = {"document:refill": b"d" * 32, "patient:ab": b"p" * 32, "document:other": b"o" * 32}
SUBJECTS = ("patient:ab", "document:refill")
WORDS = FeedbackText(question="When may M12 refill?", shown="On day 24.")


def sealed(words: FeedbackText = WORDS, *, number: int = 1) -> SealedText:
    text = seal(words, event(number), subjects=SUBJECTS, keys=KEYS)
    assert text is not None
    return text


def test_sealed_words_are_unreadable_without_keys_and_come_back_with_them() -> None:
    text = sealed()
    assert text.subjects == ("document:refill", "patient:ab")
    assert b"refill?" not in base64.b64decode(text.sealed)
    assert unseal(text, KEYS) == WORDS


@pytest.mark.parametrize("lost", SUBJECTS)
def test_the_loss_of_any_one_key_makes_them_unreadable(lost: str) -> None:
    assert unseal(sealed(), {name: key for name, key in KEYS.items() if name != lost}) is None


def test_another_key_of_the_same_subject_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        unseal(sealed(), KEYS | {"patient:ab": b"x" * 32})


def test_words_of_a_subject_whose_key_is_gone_are_not_sealed() -> None:
    assert seal(WORDS, event(), subjects=("document:gone",), keys=KEYS) is None
    assert seal(WORDS, event(), subjects=(), keys=KEYS) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"subjects": ("document:other", "document:refill", "patient:ab")},
        {"text_id": "0" * 64},
        {"sealed": base64.b64encode(b"short").decode()},
        {"sealed": "no base64"},
    ],
)
def test_an_altered_text_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        unseal(sealed().model_copy(update=changed), KEYS)


LABEL, TEXT = "events/dt=2026-11-20/aa.jsonl", "texts/00/00.json"
LOCK = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 400}}}


@asynccontextmanager
async def _buckets(place: Path, url: str) -> AsyncGenerator[tuple[Any, str, str]]:
    """Yield a client, and the names of a locked bucket and of one without a lock."""
    name = tenant_name(place)
    async with open_client("s3", region=REGION, endpoint_url=url) as s3:
        await s3.create_bucket(Bucket=f"{name}-labels", ObjectLockEnabledForBucket=True)
        await s3.put_object_lock_configuration(Bucket=f"{name}-labels", ObjectLockConfiguration=LOCK)
        await s3.create_bucket(Bucket=f"{name}-texts")
        yield s3, f"{name}-labels", f"{name}-texts"


@pytest.fixture
async def stored(tmp_path: Path, aws_server_url: str) -> AsyncGenerator[tuple[Any, str, str]]:
    async with _buckets(tmp_path, aws_server_url) as opened:
        yield opened


async def keys(client: Any, bucket: str) -> list[str]:
    found = await client.list_objects_v2(Bucket=bucket)
    return [each["Key"] for each in found.get("Contents", [])]


async def test_labels_and_texts_are_in_buckets_of_their_own(stored: tuple[Any, str, str]) -> None:
    client, labels, texts = stored
    files = S3Blobs.of(FEEDBACK_FILES, client, bucket=labels, beside={TEXTS: texts})
    await files.add(LABEL, b"{}")
    await files.add(TEXT, b"{}")
    assert (await keys(client, labels), await keys(client, texts)) == ([LABEL], [TEXT])
    assert [found.key async for found in files.list("texts/")] == [TEXT]
    assert await files.get(TEXT) == await files.get(LABEL) == b"{}"


def test_sealing_again_gives_the_same_bytes_and_no_nonce_serves_two_texts() -> None:
    assert sealed() == sealed()
    other = sealed(WORDS.model_copy(update={"shown": "On day 25."}))
    assert base64.b64decode(other.sealed)[:12] != base64.b64decode(sealed().sealed)[:12]
    assert base64.b64decode(sealed(number=2).sealed)[:12] != base64.b64decode(sealed().sealed)[:12]
