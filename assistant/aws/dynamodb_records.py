"""The append-only records of one tenant in DynamoDB: every write is an insert that fails where an item is.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``answer#ID`` | ``answer`` | the record |
| ``answer#ID`` | ``interrupted`` | what stands while there is no record |
| ``answer#ID`` | ``verdict#AT#ID``, ``sent#AT#ID`` | the answer's verdicts and sends, in order |
| ``answer#ID`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``conversation#ID`` | ``AT#ANSWER`` | which answers a conversation has, in order |
| ``verdict#ID``, ``sent#ID`` | ``once`` | the one use of an id; verdicts are listed by the index |
| ``access#DAY`` | ``AT#ID`` | one read |
| ``access#DAY`` | ``AT#asked#ANSWER#KIND`` | who was given the record's answer, and its sources |

Who saw a document is asked by days: of each the whole partition is read, a page of DynamoDB's at a time. No
index is needed, and no table is scanned.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from assistant.aws.dynamodb import (
    DynamoDbCalls,
    DynamoDbTable,
    Item,
    Key,
    StoredBody,
    partition_request,
    store_text,
    typed_key,
)
from assistant.aws.dynamodb_writes import GroupCommit, Inserts
from assistant.domain.answers import (
    AccessEntry,
    AccessPage,
    AccessQuery,
    AnswerRecord,
    Sent,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConflictError, RecordsUnavailableError

_ANSWER = "answer"
_INTERRUPTED = "interrupted"
_USED_ONCE = "once"
_MOST_ENTRIES = 2000
"""Entries of accesses that one call looks at: about half a megabyte."""
_MOST_DAYS = 62
"""Days that one call looks at, for days may be empty."""
Stored = TypeVar("Stored", StoredVerdict, StoredSent)


class DynamoDbAnswerRecords:
    """``AnswerRecords`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        self._calls = DynamoDbCalls(client, unavailable=RecordsUnavailableError)
        self._inserts = GroupCommit(Inserts(self._calls), unavailable=RecordsUnavailableError)
        self._table = DynamoDbTable(self._calls, name=table, unavailable=RecordsUnavailableError)
        self._name = table
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._inserts.close()
        await self._calls.close()

    async def put_answer(self, record: AnswerRecord) -> None:
        if await self._put(record, kind=_ANSWER) is not None:
            raise ConflictError(f"The answer {record.answer_id} is already recorded.")

    async def put_interrupted(self, record: AnswerRecord) -> None:
        await self._put(record, kind=_INTERRUPTED)

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        return (await self._answers([answer_id])).get(answer_id)

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        newest_first: list[AnswerRecord] = []
        request = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": f"conversation#{conversation_id}"}},
            "ScanIndexForward": False,
        }
        wanted: list[Item] = []
        # An entry without its record yet, or of a refused second record, counts for nothing: hence the spare.
        async for entry in self._table.query(request, limit=2 * limit + 10):
            wanted.append(entry)
        for start in range(0, len(wanted), limit):
            entries = wanted[start : start + limit]
            records = await self._answers([entry["answer_id"]["S"] for entry in entries])
            for entry in entries:
                record = records.get(entry["answer_id"]["S"])
                if record is not None and _conversation_key(record) == _key_of(entry):
                    newest_first.append(record)
            if len(newest_first) >= limit:
                break
        return newest_first[:limit][::-1]

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        stored = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        return await self._append("verdict", verdict.verdict_id, stored)

    async def append_sent(self, answer_id: str, sent: Sent, *, agent: str) -> StoredSent:
        stored = StoredSent(answer_id=answer_id, agent=agent, at=self._clock.now(), sent=sent)
        return await self._append("sent", sent.send_id, stored)

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        """As the port says; over all answers the index may lag behind by a moment."""
        if answer_id is None:
            request = {
                "IndexName": "listed",
                "KeyConditionExpression": "listed = :kind",
                "ExpressionAttributeValues": {":kind": {"S": "verdict"}},
            }
        else:
            request = partition_request(f"answer#{answer_id}", prefix="verdict#")
        items = [item async for item in self._table.query(request, limit=limit)]
        return [StoredVerdict.model_validate_json(body) for body in await self._table.bodies(items)]

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        request = partition_request(f"answer#{answer_id}", prefix="sent#")
        items = [item async for item in self._table.query(request)]
        return [StoredSent.model_validate_json(body) for body in await self._table.bodies(items)]

    async def record_access(self, entry: AccessEntry) -> None:
        at = _instant(entry.at)
        key = (f"access#{at[:10]}", f"{at}#{uuid.uuid4().hex}")
        await self._insert(key, store_text(entry.model_dump_json()))

    async def list_accesses(self, query: AccessQuery) -> AccessPage:
        low, high = max(_instant(query.since), query.after or ""), _instant(query.until)
        found: list[AccessEntry] = []
        looked_at = 0
        for _ in range(_MOST_DAYS):
            if low >= high:
                return AccessPage(tuple(found), None)
            request = {
                "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
                "ExpressionAttributeValues": {
                    ":pk": {"S": f"access#{low[:10]}"},
                    ":low": {"S": low},
                    ":high": {"S": high},
                },
            }
            items = [item async for item in self._table.query(request, limit=_MOST_ENTRIES - looked_at)]
            looked_at += len(items)
            new = [item for item in items if item["sk"]["S"] != query.after]
            for item, body in zip(new, await self._table.bodies(new), strict=True):
                low = item["sk"]["S"]
                entry = AccessEntry.model_validate_json(body)
                if query.wants(entry):
                    found.append(entry)
                    if len(found) >= query.limit:
                        return AccessPage(tuple(found), low)
            if looked_at >= _MOST_ENTRIES:
                break
            low = _next_day(low)
        return AccessPage(tuple(found), low)

    async def _put(self, record: AnswerRecord, *, kind: str) -> Item | None:
        """Keep the record, its place in the conversation and who saw what by it; return another record that
        has its key.

        All are written at once, mostly in one call. When one fails the caller is told, and repeats all.
        """
        entry = typed_key(_conversation_key(record)) | {"answer_id": {"S": record.answer_id}}
        sight = record.sight()
        seen_at = _instant(sight.at)
        found, _, _ = await asyncio.gather(
            self._insert((f"answer#{record.answer_id}", kind), store_text(record.model_dump_json())),
            self._insert_item(entry),
            self._insert(
                (f"access#{seen_at[:10]}", f"{seen_at}#asked#{record.answer_id}#{kind}"),
                store_text(sight.model_dump_json()),
            ),
        )
        return found

    async def _append(self, kind: str, record_id: str, stored: Stored) -> Stored:
        """Keep ``stored`` under its id, once in the tenant, and then in its answer's list.

        A repeat finds the first and writes its place in the list again, should that be missing.
        """
        body = store_text(stored.model_dump_json())
        listed: Item = {
            "listed": {"S": kind},
            "listed_at": {"S": f"{_instant(stored.at)}#{record_id}"},
        }
        found = await self._insert((f"{kind}#{record_id}", _USED_ONCE), body, listed)
        if found is not None:
            (kept,) = await self._table.bodies([found])
            first = type(stored).model_validate_json(kept)
            if first.model_copy(update={"at": stored.at}) != stored:
                raise ConflictError(
                    f"The id {record_id} was used before with other content; choose a new one."
                )
            stored, body = first, store_text(kept.decode())
        sort = f"{kind}#{_instant(stored.at)}#{record_id}"
        await self._insert((f"answer#{stored.answer_id}", sort), body)
        return stored

    async def _insert(self, key: Key, body: StoredBody, more: Item | None = None) -> Item | None:
        """Insert an item after its parts; return another item that has its key."""
        parts = [typed_key((key[0], name)) | part for name, part in body.parts]
        await asyncio.gather(*(self._insert_item(part) for part in parts))
        return await self._insert_item(typed_key(key) | body.attributes | (more or {}))

    async def _insert_item(self, item: Item) -> Item | None:
        """Return None when the item is there, also by an attempt whose answer was lost; else the other."""
        if await self._inserts.write(self._name, item):
            return None
        found = await self._table.get(_key_of(item))
        if found is None:  # nothing here is ever deleted
            raise RecordsUnavailableError("A record that is there cannot be read. Try again.")
        return None if found == item else found

    async def _answers(self, answer_ids: list[str]) -> dict[str, AnswerRecord]:
        """Return the records by id; what is known of an interrupted answer where there is no record."""
        keys = [(f"answer#{answer_id}", kind) for answer_id in answer_ids for kind in (_ANSWER, _INTERRUPTED)]
        items = await self._table.get_many(keys)
        chosen = [
            items[best]
            for answer_id in dict.fromkeys(answer_ids)
            if (best := _best(answer_id, items)) is not None
        ]
        records = [AnswerRecord.model_validate_json(body) for body in await self._table.bodies(chosen)]
        return {record.answer_id: record for record in records}


def _best(answer_id: str, items: dict[Key, Item]) -> Key | None:
    keys = [(f"answer#{answer_id}", kind) for kind in (_ANSWER, _INTERRUPTED)]
    return next((key for key in keys if key in items), None)


def _conversation_key(record: AnswerRecord) -> Key:
    return f"conversation#{record.conversation_id}", f"{_instant(record.asked_at)}#{record.answer_id}"


def _next_day(instant: str) -> str:
    day = date.fromisoformat(instant[:10]) + timedelta(days=1)
    return _instant(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _key_of(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _instant(at: datetime) -> str:
    """Return a time that sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
