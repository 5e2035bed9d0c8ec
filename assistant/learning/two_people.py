"""Lets an act run by the word of two people: the request of the first is recorded, the second confirms it.

Both ask for the same in the same way. Requests are desk items: their revisions say who asked and who
confirmed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from assistant.domain.clock import Clock
from assistant.domain.desk import ActOfTwo, ActRequest, DeskKind
from assistant.domain.errors import ForbiddenError, InvalidRequestError, SecondPersonNeededError
from assistant.learning.desk import body_of_item, first_revision
from assistant.learning.ports import DeskStore

WAITS_FOR = timedelta(hours=24)
"""A request that nobody confirmed until then counts no more."""
HOLDS_FOR = timedelta(hours=1)
"""After a confirmation the second person may repeat the act: a response can be lost, a long one cut off."""


@dataclass(frozen=True, slots=True)
class TwoPeople:
    """``is_needed``: as the profile ``hipaa`` has it; else every act runs at once."""

    store: DeskStore
    is_needed: bool
    clock: Clock

    async def admit(self, act: ActOfTwo, subject: str, *, by: str) -> None:
        """Return where the act may run now.

        Raises InvalidRequestError (``by`` is empty), SecondPersonNeededError (the request is recorded),
        ForbiddenError (the first person asks again), ConflictError (another person asks at the same moment),
        RecordsUnavailableError.
        """
        if not self.is_needed:
            return
        if not by:
            raise InvalidRequestError(f"{act} needs two people: name who asks for it as by.")
        now = self.clock.now()
        item_id = f"{act}-{hashlib.sha256(subject.encode()).hexdigest()[:48]}"
        item = await self.store.get(DeskKind.ACT_REQUEST, item_id)
        request = ActRequest(act=act, subject=subject, asked_by=by)
        revision = 1 if item is None else item.revision + 1
        if item is not None:
            before = body_of_item(item, ActRequest)
            if before.confirmed_by == by and now - item.at < HOLDS_FOR:
                return
            if before.confirmed_by is None and now - item.at < WAITS_FOR:
                if before.asked_by == by:
                    raise ForbiddenError(
                        f"You asked for {act} of {subject} yourself, at {item.at:%Y-%m-%d %H:%M} UTC. Another"
                        f" person must ask for the same before {item.at + WAITS_FOR:%Y-%m-%d %H:%M} UTC."
                    )
                request = before.model_copy(update={"confirmed_by": by})
        first = first_revision(DeskKind.ACT_REQUEST, item_id, request, by=by, at=now)
        await self.store.put(first.model_copy(update={"revision": revision}))
        if request.confirmed_by is None:
            raise SecondPersonNeededError(
                f"Your request for {act} of {subject} is recorded, and nothing is done yet. Another person"
                f" must ask for the same before {now + WAITS_FOR:%Y-%m-%d %H:%M} UTC; then it runs."
            )
