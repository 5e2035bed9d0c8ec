"""Stores of live systems: the record of reads, live values of sent texts, and the switch of each system."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from assistant.domain.audit import LiveRead, LiveReadPage, LiveReadQuery, place_of
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import AssistantError
from assistant.stores.ports import ValuesOfSent
from assistant.stores.records import LIVE_DAYS, RECORDS_TABLE, Audited, Listing
from assistant.stores.store import Store, TableOf, Words, WordsOf
from assistant.stores.table import ABSENT, EXPIRES_AT, Range, Table, keyed
from assistant.stores.words import Latest
from assistant.tenant.deployed_names import OFF, ON

_log = structlog.get_logger(__name__)


class StoredLiveReads(Audited):
    """The append-only record of live reads, in the table of records. All methods raise
    RecordsUnavailableError.

    Each read is an audit record of its day, and a second item in the partition ``live-of#<subject>``, so that
    the reads of one customer are listed without those of others. The subject is the customer's pseudonym.
    """

    family = LIVE_DAYS

    async def record(self, read: LiveRead) -> None:
        body = read.model_dump_json()
        await asyncio.gather(
            self.add(read, at=read.at, name=read.read_id),
            *([] if read.subject is None else [self._insert_for_subject(read, body)]),
        )

    async def _insert_for_subject(self, read: LiveRead, body: str) -> None:
        key = _subject_key(str(read.subject)), place_of(read)
        await self._table.insert(keyed(key, body=body))

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        """Return the reads that match the query, oldest first, those of one instant in a fixed order.

        A call looks at a bounded part of the period, so a page may have fewer reads than ``query.limit``,
        even none, and still a ``next_after``. Only a page without it is the last: no read is left out. The
        reads of one subject are found without those of others.
        """
        listing = Listing(self._table, query, LiveRead)
        if query.subject is not None:
            return LiveReadPage(*await listing.of_partition(_subject_key(query.subject)))
        return LiveReadPage(*await listing.by_day(LIVE_DAYS))


def _subject_key(subject: str) -> str:
    return f"live-of#{subject}"


LIVE_READS = Store(RECORDS_TABLE, lambda table, clock: StoredLiveReads(table, clock=clock))


class StoredSentValues:
    """``SentValues`` in a table whose items expire: live values that a sent text holds.

    Key: ("values#<answer id>", "<send id>" and "<send id>#key").
    """

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def keep(self, values: ValuesOfSent) -> ValuesOfSent:
        """Keep the values of a sent text unless some are kept already; return those that are kept."""
        key = _values_key(values.answer_id), values.send_id
        expires_at = int(values.expires_at.timestamp())
        if await self._table.put(keyed(key, values=values.values, expires_at=expires_at), when=ABSENT):
            return values
        return (await self.of(values.answer_id)).get(values.send_id, values)

    async def of(self, answer_id: str) -> Mapping[str, ValuesOfSent]:
        """Return the values by send id. An expired item may still be in the table, and is left out."""
        now_s = self._clock.now().timestamp()
        return {
            item["sk"]: ValuesOfSent(
                answer_id, item["sk"], tuple(item["values"]), datetime.fromtimestamp(item[EXPIRES_AT], UTC)
            )
            for item in await self._table.query(Range(_values_key(answer_id)))
            if item[EXPIRES_AT] > now_s
        }


def _values_key(answer_id: str) -> str:
    return f"values#{answer_id}"


SENT_VALUES = Store(
    TableOf("sent-values.sqlite", "events_table", expires=True),
    lambda table, clock: StoredSentValues(table, clock=clock),
)


class SwitchUnreadableError(AssistantError):
    """A switch has not been read since the process began, so its system must not be called."""

    code = "switch_unreadable"


class SystemSwitches(Protocol):
    """Which systems may be called, changed without a deployment."""

    async def is_on(self, system: str) -> bool:
        """Return the state as of a few seconds ago.

        The first call, and one after a quiet time, waits at most a second for a reading. While the switch
        cannot be read, return the last known state; before the first reading raise SwitchUnreadableError: a
        system may be switched off because of a leak, so an unknown switch must not count as on.
        """
        ...


class Switches:
    """``SystemSwitches`` by a word for each system: a short text in a file or an SSM parameter
    (``stores/words.py``). No word means on."""

    def __init__(self, words: Words, *, clock: Clock) -> None:
        unread = partial(_log.error, "switch_not_read")
        self._latest = Latest(words, means=_is_on, clock=clock, unread=unread)

    async def is_on(self, system: str) -> bool:
        is_on = await self._latest.of(system)
        if is_on is None:
            raise SwitchUnreadableError(f"The switch of {system} has not been read yet. Retry shortly.")
        return is_on

    async def close(self) -> None:
        await self._latest.close()


def _is_on(word: str | None) -> bool:
    """Return whether a switch with this word lets its system be called.

    Case does not matter. Any word but ``on`` means off, and is logged as an error if it is not ``off``: a
    person who writes "stop" because of a leak means it.
    """
    switch = ON if word is None else word.casefold()
    if switch not in (ON, OFF):
        _log.error("switch_not_understood", advice="Write on or off. The system is not called until then.")
    return switch == ON


# The switches' folder in a tenant's state folder, and the setting that names their parameters on AWS.
SWITCHES = Store(WordsOf("systems", "system_switches"), lambda words, clock: Switches(words, clock=clock))
