"""Claims of idempotency keys and context tokens, cancellations, and erasure keys: what must leave no copy.

An erasure key encrypts texts about one subject, such as ``document:wiki:refill``. When it is destroyed, no
copy of those texts can be read any more.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``key#HASH`` | ``key`` | the answer that holds an agent's idempotency key |
| ``context#HASH`` | ``context`` | the answer that a context token is counted for |
| ``log#ANSWER`` | ``signals`` | somebody asked to cancel the answer |
| ``values#ANSWER`` | ``SEND`` | live values of a sent text, an option's |
| ``erasure#SUBJECT`` | ``key`` | ``key``: 32 bytes; after its destruction ``destroyed_at`` alone |

On AWS all are in one table without point-in-time recovery, from which a destroyed key would come back
(docs/decisions/0044-signals-that-leave.md). All but the keys of erasure expire. Other items of ``log#`` are
the release before's, whose tasks serve while a deployment replaces them.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import RecordsUnavailableError
from assistant.stores.store import Store, TableOf
from assistant.stores.table import ABSENT, EXPIRES_AT, Condition, Item, Key, Table, equal, keyed

CLAIM_EXPIRES_AFTER_S = 15 * 60
KEY_BYTES = 32
"""Length of a key of erasure."""
_SIGNALS = "signals"
_CLAIMS = 3
"""Attempts to take a key while other requests release it or take it over."""


EVENTS_TABLE = TableOf("events.sqlite", "events_table", synced=False, expires=True)
"""Not synced: a crash of the machine may lose the last claims, but it also ends the process that made
them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An agent's ``Idempotency-Key`` and the answer that it stands for.

    The service claims the key before it answers. A repeat with the same key gets the first claim back, and so
    the first answer.
    """

    answer_id: str
    agent: str
    key: str
    request_hash: str
    """SHA-256 (hex) of the request: a repeat with the same key must be the same request."""
    claimed_at: datetime


class StoredClaims:
    """Keys and tokens that count once, and cancellations from one task of the service to another. Everything
    expires after CLAIM_EXPIRES_AFTER_S; expired items are not found, whether or not the store has deleted
    them.

    All methods raise RecordsUnavailableError.
    """

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def claim(self, claim: Claim) -> Claim:
        """Take the key for the claim's answer, and return the claim. Where the same agent has used the key
        before, take nothing and return the claim of that answer."""
        key = key_of_claim(claim.agent, claim.key)
        values = {"answer_id": claim.answer_id, "request_hash": claim.request_hash}
        item = keyed(key, **values, **_expiry(claim.claimed_at))
        when: Condition = ABSENT
        for _ in range(_CLAIMS):
            if await self._table.put(item, when=when):
                return claim
            row = await self._table.get(key)
            if row is not None and row[EXPIRES_AT] > self._now_s():
                return _claim_in(row, claim)
            # The claim has expired or is gone: take the key over, unless somebody did so since it was read.
            when = ABSENT if row is None else equal(answer_id=row["answer_id"], expires_at=row[EXPIRES_AT])
        raise RecordsUnavailableError("This key was used several times at once. Retry.")

    async def release(self, claim: Claim) -> None:
        """Free the key: the next claim takes it. Does nothing where another answer has it."""
        key = key_of_claim(claim.agent, claim.key)
        await self._table.delete(key, when=equal(answer_id=claim.answer_id))

    async def count_context(self, token_id: str, *, answer_id: str, key: str | None) -> bool:
        """Count a context token for an answer, the first that asks, for the 15 minutes.

        Return False when it is counted for another answer. A repeat under the same ``Idempotency-Key``
        belongs to the first answer: it returns True.
        """
        place = _context(token_id)
        # With a key, a repeat has another answer_id and the same key: one equal value is enough.
        mine = {"answer_id": answer_id} | ({} if key is None else {"key": key})
        is_free: Condition = (*ABSENT, ((EXPIRES_AT, "<=", int(self._now_s())),))
        if await self._table.put(keyed(place, **mine, **_expiry(self._clock.now())), when=is_free):
            return True
        # Also a put that was repeated after a lost response finds its own item.
        stored = await self._table.get(place) or {}
        return any(stored.get(name) == value for name, value in mine.items())

    async def uncount_context(self, token_id: str, *, answer_id: str) -> None:
        """Forget that the token was counted for this answer, which never began. Does nothing when it is
        counted for another."""
        await self._table.delete(_context(token_id), when=equal(answer_id=answer_id))

    async def cancel(self, answer_id: str) -> None:
        """Ask the task that writes the answer, wherever it is, to cancel it."""
        item = keyed(_signals(answer_id), cancelled=True, **_expiry(self._clock.now()))
        await self._table.put(item)

    async def cancelled(self, answer_ids: Sequence[str]) -> Collection[str]:
        """Return which of the answers (at most 100) somebody asked to cancel."""
        rows = await self._table.get_many([_signals(answer_id) for answer_id in answer_ids])
        return {
            partition.removeprefix("log#")
            for (partition, _), item in rows.items()
            if item.get("cancelled", False) and item[EXPIRES_AT] > self._now_s()
        }

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


CLAIMS = Store(EVENTS_TABLE, lambda table, clock: StoredClaims(table, clock=clock))


def key_of_claim(agent: str, key: str) -> Key:
    """Return the key of an idempotency key's item. It is hashed: agent and key may be long and any text."""
    return f"key#{hashlib.sha256(orjson.dumps([agent, key])).hexdigest()}", "key"


def _signals(answer_id: str) -> Key:
    return f"log#{answer_id}", _SIGNALS


def _context(token_id: str) -> Key:
    return f"context#{token_id}", "context"


def _expiry(since: datetime) -> dict[str, Any]:
    """Return the attribute that makes an item expire."""
    return {EXPIRES_AT: int(since.timestamp()) + CLAIM_EXPIRES_AFTER_S}


def _claim_in(row: Item, asked: Claim) -> Claim:
    """Return the claim in a stored item. An item of an earlier release may have no ``request_hash``: then the
    request counts as the same."""
    return Claim(
        answer_id=row["answer_id"],
        agent=asked.agent,
        key=asked.key,
        request_hash=row.get("request_hash", asked.request_hash),
        claimed_at=datetime.fromtimestamp(row[EXPIRES_AT], UTC) - timedelta(seconds=CLAIM_EXPIRES_AFTER_S),
    )


class StoredErasureKeys:
    """One random key of 32 bytes for each subject of texts. The table erases overwritten values from the
    disk.

    All methods raise RecordsUnavailableError.
    """

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        """Return the keys by subject; a missing one is made if ``create``, unless it was destroyed."""
        rows = await self._items(subjects)
        if create:
            missing = [subject for subject in dict.fromkeys(subjects) if subject not in rows]
            made = [keyed(_key(subject), key=secrets.token_bytes(KEY_BYTES)) for subject in missing]
            # An insert does nothing where there is a key, or a destroyed one.
            await asyncio.gather(*map(self._table.insert, made))
            rows |= await self._items(missing)
        return {name: item["key"] for name, item in rows.items() if "key" in item}

    async def destroy(self, subject: str) -> bool:
        """Destroy a key for good; return whether there was one. No new key is ever made for the subject, also
        where it never had one: its item stays with ``destroyed_at`` alone."""
        key, now = _key(subject), {"destroyed_at": self._clock.now().astimezone(UTC).isoformat()}
        stored = await self._table.get(key) or {}
        if "key" in stored:
            is_there = equal(key=stored["key"])
            if await self._table.change(key, put=now, remove=["key"], when=is_there):
                return True
        await self._table.change(key, put=now, remove=["key"])
        return False

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        """Return when each subject's key was destroyed, by subject; subjects that were never destroyed are
        left out."""
        return {
            name: datetime.fromisoformat(item["destroyed_at"])
            for name, item in (await self._items(subjects)).items()
            if "destroyed_at" in item
        }

    async def _items(self, subjects: Collection[str]) -> dict[str, Item]:
        """Return the stored items by subject."""
        items = await self._table.get_many([_key(subject) for subject in subjects])
        return {key[0].partition("#")[2]: item for key, item in items.items()}


def _key(subject: str) -> Key:
    return f"erasure#{subject}", "key"


ERASURE_KEYS = Store(
    TableOf("erasure.sqlite", "events_table", overwrites=True),
    lambda table, clock: StoredErasureKeys(table, clock=clock),
)
