"""Lets an act run by the word of two people: the request of the first is recorded, the second confirms it.

Both ask for the same contents, by their digest. Requests are desk items: their revisions say who asked and
who confirmed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from assistant.domain.desk import ActOfTwo, ActRequest, DeskKind, Half, body_of_item, first_revision
from assistant.domain.documents import contents_digest
from assistant.domain.errors import (
    ContentsChangedError,
    ForbiddenError,
    InvalidRequestError,
    SecondPersonNeededError,
)
from assistant.stores.desk import StoredDesk

WAITS_FOR = timedelta(hours=24)
"""A request that nobody confirmed until then counts no more."""
HOLDS_FOR = timedelta(hours=1)
"""After a confirmation the second person may repeat the act: a response can be lost, a long one cut off."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an act is about, as both people see it."""

    digest: str
    told: str
    """In words: ``412 documents``."""

    @classmethod
    def of(cls, contents: Mapping[str, str], told: str) -> Contents:
        """``contents``: id = hash or revision."""
        return cls(contents_digest(contents), told)


@dataclass(frozen=True, slots=True)
class TwoPeople:
    """``is_needed``: as the profile ``hipaa`` has it; else every act runs at once."""

    store: StoredDesk
    is_needed: bool

    async def admit(
        self,
        act: ActOfTwo,
        subject: str,
        *,
        by: str,
        contents: Callable[[], Awaitable[Contents]],
        named: str | None = None,
        half: Half = "both",
    ) -> None:
        """Return where the act may run now, on these contents and no others.

        A request is of an act, a subject and their contents: where these change, it counts no more.
        ``named``: digest of the contents that the person looked at, without which nobody confirms.
        ``half``: the act runs by the request of ``first``, and ``second`` only confirms; by ``both`` it runs
        by the second one's.

        Raises InvalidRequestError (``by`` is empty), NotFoundError (``second``: nobody asked),
        SecondPersonNeededError (the request is recorded, or the contents are to be looked at), ForbiddenError
        (the first person asks again), ContentsChangedError, ConflictError (another person asks at the same
        moment), RecordsUnavailableError.
        """
        if not self.is_needed:
            return
        if not by:
            raise InvalidRequestError(f"{act} needs two people: name who asks for it as by.")
        now, about = await self.store.now(), await contents()
        if named not in (None, about.digest):
            raise ContentsChangedError(
                f"{act} of {subject} has other contents now than {named}: {about.told}, contents "
                f"{about.digest}. Nothing is done. Look at them, and ask with these."
            )
        key = hashlib.sha256(f"{subject}\0{about.digest}".encode()).hexdigest()
        item_id, revision = f"{act}-{key[:48]}", 1
        request = ActRequest(act=act, subject=subject, asked_by=by)
        if (item := await self.store.get(DeskKind.ACT_REQUEST, item_id)) is not None:
            before, age, revision = body_of_item(item, ActRequest), now - item.at, item.revision + 1
            if by == before.runs_by(half) and age < HOLDS_FOR:
                return
            if before.confirmed_by is None and age < WAITS_FOR:
                _refuse_confirmation(before, about, by=by, named=named, asked_at=item.at)
                request = before.model_copy(update={"confirmed_by": by})
        request.check_begins(half)
        first = first_revision(DeskKind.ACT_REQUEST, item_id, request, by=by, at=now)
        await self.store.put(first.model_copy(update={"revision": revision}))
        if request.confirmed_by is None:
            raise SecondPersonNeededError(
                f"Your request for {act} of {subject} is recorded ({about.told}), and nothing is done yet. "
                f"Another person must ask for the same before {now + WAITS_FOR:%Y-%m-%d %H:%M} UTC, with "
                f"contents {about.digest}; then it runs. It counts no more when these change."
            )


def _refuse_confirmation(
    request: ActRequest, about: Contents, *, by: str, named: str | None, asked_at: datetime
) -> None:
    """Raise ForbiddenError for the person who asked, SecondPersonNeededError where no contents are named."""
    what = f"{request.act} of {request.subject}"
    if request.asked_by == by:
        raise ForbiddenError(
            f"You asked for {what} yourself, at {asked_at:%Y-%m-%d %H:%M} UTC. Another person must ask for "
            f"the same before {asked_at + WAITS_FOR:%Y-%m-%d %H:%M} UTC, with contents {about.digest}."
        )
    if named is None:
        raise SecondPersonNeededError(
            f"{request.asked_by} asked for {what}: {about.told}. Look at them, and ask again with contents "
            f"{about.digest}; then it runs."
        )
