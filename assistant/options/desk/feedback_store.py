"""The feedback store over plain files: events by day as JSON lines, each sealed text in a file of its own.

| key | content |
| --- | --- |
| ``events/dt=YYYY-MM-DD/TIME-SHA256.jsonl`` | events of one group whose act was on that day (UTC), by time |
| ``texts/XX/TEXT_ID.json`` | one ``SealedText``; XX are the first digits of its id |

A file is named by its content, or by what makes its content, and is never written over: a group that is
moved twice is one file, and a bucket may lock what is in it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar, cast

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from assistant.domain.documents import DOCUMENT_SUBJECT
from assistant.domain.errors import InvalidRequestError
from assistant.options.desk.events import FEEDBACK_VERSION, FeedbackEvent, FeedbackText, SealedText
from assistant.stores.blobs import Blobs
from assistant.stores.events import KEY_BYTES, StoredErasureKeys
from assistant.stores.store import BlobsOf

TEXTS = "texts/"
"""Folder of the sealed texts."""
FEEDBACK_FILES = BlobsOf(
    "The feedback store",
    folder="feedback",
    setting="labels_bucket",
    key_setting="feedback_key_id",
    # A lock, which texts may not have, is a whole bucket's (docs/decisions/0050-feedback-on-aws.md).
    beside=((TEXTS, "texts_bucket"),),
)
_FILES_AT_ONCE = 16
_SUBJECTS_A_CALL = 1_000
_BEGINS = "%H%M%S%f"
"""Time of day (UTC) of the first event in the name of a file: "092011000250-SHA256.jsonl"."""
_LONGEST_REASON = 200
"""Characters of what pydantic says about a bad event, in an error."""
_Item = TypeVar("_Item")


class StoredFeedback:
    """The tenant's feedback: events by day, and sealed texts. Readers do not see documents whose key of
    erasure is destroyed. All methods raise DependencyError."""

    def __init__(self, blobs: Blobs, *, tenant: str, keys: StoredErasureKeys) -> None:
        self._blobs = blobs
        self._tenant = tenant
        self._keys = keys

    async def append(self, events: Sequence[FeedbackEvent], texts: Sequence[SealedText]) -> None:
        """Store a group of at most 500 events (``mover.GROUP_ROWS``). The same group again changes nothing;
        an event that comes in two groups is read once. Texts are written first: a stored event never names a
        text that is missing."""
        await self._put_all((_text_key(text.text_id), text.model_dump_json().encode()) for text in texts)
        await self._put_all(_event_files(events))

    async def read(self, since: datetime, until: datetime) -> AsyncIterator[FeedbackEvent]:
        """Yield the events with ``at`` in [since, until), each id once, by time, without the documents that
        were withdrawn since, and without events that are about these alone. An event of another schema
        version or tenant, and a damaged line, raise InvalidRequestError naming it."""
        seen: set[str] = set()
        destroyed: dict[str, datetime | None] = {}
        for day in _days(since, until):
            events = await self._of_day(day)
            await self._look_up(events, destroyed)
            for event in events:
                visible = _without_destroyed(event, destroyed)
                if visible is not None and since <= event.at < until and event.event_id not in seen:
                    seen.add(event.event_id)
                    yield visible

    async def texts(self, text_ids: Collection[str]) -> dict[str, SealedText]:
        """Return the sealed texts that are there, by id."""
        texts: dict[str, SealedText] = {}
        for ids in _groups(dict.fromkeys(text_ids), _FILES_AT_ONCE):
            contents = await asyncio.gather(*(self._blobs.get(_text_key(text_id)) for text_id in ids))
            texts |= {name: _text(file, name) for name, file in zip(ids, contents, strict=True) if file}
        return texts

    async def texts_about(self, subject: str) -> list[str]:
        """Return the ids of the texts that are sealed with the subject's key; it reads every text."""
        ids = [blob.key.rpartition("/")[2].removesuffix(".json") async for blob in self._blobs.list(TEXTS)]
        about: list[str] = []
        for group in _groups(ids, _FILES_AT_ONCE):
            texts = await self.texts(group)
            about += [text_id for text_id, text in texts.items() if subject in text.subjects]
        return sorted(about)

    async def _put_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files (key, content); one that is there stays as it is."""
        for group in _groups(files, _FILES_AT_ONCE):
            await asyncio.gather(*(self._blobs.add(key, content) for key, content in group))

    async def _of_day(self, day: date) -> list[FeedbackEvent]:
        """Return the events of a day, by time."""
        events: list[FeedbackEvent] = []
        keys = sorted([blob.key async for blob in self._blobs.list(_day_prefix(day))])
        for group in _groups(keys, _FILES_AT_ONCE):
            contents = await asyncio.gather(*(self._blobs.get(key) for key in group))
            for key, content in zip(group, contents, strict=True):
                events += iter_events(content or b"", key=key, tenant=self._tenant)
        return sorted(events, key=lambda event: (event.at, event.event_id))

    async def _look_up(self, events: Sequence[FeedbackEvent], known: dict[str, datetime | None]) -> None:
        """Add to ``known``, by id, when each document of the events was withdrawn; None: it was not."""
        of_events = {document_id for event in events for document_id in _documents(event)}
        for document_ids in _groups(sorted(of_events - known.keys()), _SUBJECTS_A_CALL):
            destroyed = await self._keys.destroyed([f"{DOCUMENT_SUBJECT}{name}" for name in document_ids])
            known.update({name: destroyed.get(f"{DOCUMENT_SUBJECT}{name}") for name in document_ids})


def iter_events(content: bytes, *, key: str, tenant: str) -> Iterator[FeedbackEvent]:
    """Yield the events of one file. Raises InvalidRequestError naming file, line and reason."""
    for number, line in enumerate(content.splitlines(), 1):
        try:
            event = FeedbackEvent.model_validate_json(line)
        except ValidationError as error:
            raise InvalidRequestError(f"{key}, line {number}: {_why(line, error)}") from None
        if event.tenant != tenant:
            raise InvalidRequestError(
                f"{key}, line {number}: the event {event.event_id} is of the tenant {event.tenant}, not of "
                f"{tenant}. Move the file to its own tenant's store."
            )
        yield event


def _why(line: bytes, error: ValidationError) -> str:
    """Return why a line is no event of this release, and what to do."""
    try:
        fields: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "the line is damaged, it is no JSON. Restore the file from an earlier version."
    if not isinstance(fields, dict):
        return "the line is no event, which is a JSON object. Restore the file from an earlier version."
    values = cast("dict[str, Any]", fields)
    event_id, version = values.get("event_id"), values.get("schema_version")
    if version != FEEDBACK_VERSION:
        return (
            f"the event {event_id} has schema_version {version}; this release reads {FEEDBACK_VERSION}. "
            "Use a release that knows it."
        )
    faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return f"the event {event_id} does not fit docs/feedback.schema.json: {faults[:_LONGEST_REASON]}"


def _event_files(events: Sequence[FeedbackEvent]) -> Iterator[tuple[str, bytes]]:
    """Yield a file (key, content) for each day (UTC) of the events. Order and duplicates do not change it:
    ``events/dt=2026-10-18/092011000250-SHA256.jsonl``."""
    by_day: dict[date, dict[str, FeedbackEvent]] = defaultdict(dict)
    for event in events:
        by_day[event.at.astimezone(UTC).date()][event.event_id] = event
    for day, events_by_id in by_day.items():
        ordered = sorted(events_by_id.values(), key=lambda event: (event.at, event.event_id))
        content = b"".join(event.model_dump_json().encode() + b"\n" for event in ordered)
        begins = ordered[0].at.astimezone(UTC).strftime(_BEGINS)
        yield f"{_day_prefix(day)}{begins}-{hashlib.sha256(content).hexdigest()}.jsonl", content


def _day_prefix(day: date) -> str:
    return f"events/dt={day.isoformat()}/"


def _text_key(text_id: str) -> str:
    return f"{TEXTS}{text_id[:2]}/{text_id}.json"


def _text(content: bytes, text_id: str) -> SealedText:
    try:
        return SealedText.model_validate_json(content)
    except ValidationError:
        raise InvalidRequestError(
            f"{_text_key(text_id)} is damaged. Restore it from an earlier version, or delete it."
        ) from None


def _groups(items: Iterable[_Item], size: int) -> Iterator[tuple[_Item, ...]]:
    rest = iter(items)
    while group := tuple(islice(rest, size)):
        yield group


def _days(since: datetime, until: datetime) -> Iterator[date]:
    first, last = since.astimezone(UTC).date(), until.astimezone(UTC).date()
    return (first + timedelta(days) for days in range((last - first).days + 1))


def _documents(event: FeedbackEvent) -> Iterator[str]:
    """Yield the id of each document that the event names."""
    yield from (shown.document_id for shown in event.documents)
    yield from event.wrong_documents
    if event.opened is not None:
        yield event.opened


def _without_destroyed(
    event: FeedbackEvent, destroyed: Mapping[str, datetime | None]
) -> FeedbackEvent | None:
    """Return the event without the documents that were withdrawn after its question; None when it is about
    these alone: it is the opening of one, or all that it quotes are withdrawn.

    An event asked after the withdrawal keeps the document, which was added again by then.
    """
    gone = {name for name in _documents(event) if (at := destroyed[name]) is not None and at > event.asked_at}
    if not gone:
        return event
    quoted = {shown.document_id for shown in event.documents if shown.is_quoted}
    if event.opened in gone or (quoted and quoted <= gone):
        return None
    kept = tuple(shown for shown in event.documents if shown.document_id not in gone)
    wrong = tuple(name for name in event.wrong_documents if name not in gone)
    return event.model_copy(update={"documents": kept, "wrong_documents": wrong})


# Sealed texts
#
# The words of an event are lost with the key of any one of their subjects: the documents that the words may
# quote, and the patients whose member numbers stood in them. AES-256-GCM under a key that HKDF-SHA-256
# derives from the keys of all subjects, for this one text. The nonce is derived from the key and the words,
# so that sealing again gives the same bytes: a group that is moved twice is one group, and no nonce is ever
# used with two texts.

MOST_SUBJECTS = 100
"""``SealedText.subjects`` takes no more."""
_NONCE_BYTES = 12
"""AES-GCM's own length. The nonce stands before the ciphertext."""
_PURPOSE = "feedback-text/1"
"""Part of each text's id and key: with another value stored texts cannot be read."""


def text_id_of(event: FeedbackEvent) -> str:
    """Return the id of the sealed words of an event."""
    return hashlib.sha256(f"{_PURPOSE}:{event.event_id}".encode()).hexdigest()


def seal(
    words: FeedbackText, event: FeedbackEvent, *, subjects: Collection[str], keys: Mapping[str, bytes]
) -> SealedText | None:
    """Return the sealed words of an event; None where a subject's key is destroyed, or there are over 100."""
    names = tuple(sorted(set(subjects)))
    if not names or len(names) > MOST_SUBJECTS or any(name not in keys for name in names):
        return None
    text_id = text_id_of(event)
    key = _key(text_id, [keys[name] for name in names])
    plain = words.model_dump_json().encode()
    nonce = hmac.new(key, b"nonce:" + plain, hashlib.sha256).digest()[:_NONCE_BYTES]
    sealed = nonce + AESGCM(key).encrypt(nonce, plain, _bound(text_id, names))
    return SealedText(text_id=text_id, at=event.at, subjects=names, sealed=base64.b64encode(sealed).decode())


def unseal(text: SealedText, keys: Mapping[str, bytes]) -> FeedbackText | None:
    """Return the words; None where a subject's key is destroyed. Raises InvalidRequestError for a text that
    was altered or is damaged."""
    if any(name not in keys for name in text.subjects):
        return None
    key = _key(text.text_id, [keys[name] for name in text.subjects])
    try:
        sealed = base64.b64decode(text.sealed, validate=True)
        bound = _bound(text.text_id, text.subjects)
        plain = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        return FeedbackText.model_validate_json(plain)
    except (InvalidTag, binascii.Error, ValidationError, ValueError):
        raise InvalidRequestError(
            f"The sealed text {text.text_id} was altered or is damaged. Restore it, or delete it."
        ) from None


async def unseal_all(texts: Collection[SealedText], keys: StoredErasureKeys) -> dict[str, FeedbackText]:
    """Return the words of the texts that can still be read, by ``text_id``. Raises as ``unseal`` and the
    store of keys."""
    subjects = {name for text in texts for name in text.subjects}
    keys_by_subject = await keys.keys_of(sorted(subjects), create=False)
    opened = {text.text_id: unseal(text, keys_by_subject) for text in texts}
    return {text_id: words for text_id, words in opened.items() if words is not None}


def _key(text_id: str, keys: Collection[bytes]) -> bytes:
    """Return the key of one text. ``keys``: its subjects' keys, in the order of the sorted subjects."""
    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"{_PURPOSE}:{text_id}".encode())
    return derived.derive(b"".join(keys))


def _bound(text_id: str, subjects: Collection[str]) -> bytes:
    """Return what AES-GCM authenticates beside the words, so that a text cannot take another one's place:
    the id and the sorted subjects, one a line."""
    return "\n".join((text_id, *subjects)).encode()
