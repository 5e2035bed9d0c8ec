"""A batch that somebody else took from a queue: each message is done, or waits as a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from assistant.domain.errors import DependencyError, EmbeddingUnavailableError
from assistant.ingesting.batch_handling import BatchHandling
from assistant.ingesting.ports import MAX_ATTEMPTS, QueuedDocument
from assistant.ingesting.postponing import UNAVAILABLE_DELAY_S, BatchOutcome, PostponingBatches


class Later:
    """A queue that remembers what was put back; ``down`` it takes nothing."""

    def __init__(self, *, down: bool = False) -> None:
        self.sent: list[tuple[str, int]] = []
        self._down = down

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None:
        if self._down:
            raise DependencyError("The queue is down.")
        self.sent += [(document_id, delay_s) for document_id in document_ids]


def messages(*document_ids: str, attempt: int = 1) -> list[QueuedDocument]:
    return [QueuedDocument(f"receipt-{n}", name, attempt) for n, name in enumerate(document_ids)]


class Handling:
    """Handles ids until ``fails`` raises for one of them; remembers what was handled and given up."""

    def __init__(self, fails: Callable[[str], Exception | None] = lambda _: None) -> None:
        self.handled: list[list[str]] = []
        self.given_up: dict[str, str] = {}
        self._fails = fails

    async def handle(self, document_ids: Sequence[str]) -> None:
        for document_id in document_ids:
            if (error := self._fails(document_id)) is not None:
                raise error
        self.handled.append(list(document_ids))

    async def give_up(self, document_id: str, *, code: str, reason: str) -> None:
        self.given_up[document_id] = code

    def on(self, queue: Later) -> PostponingBatches:
        return PostponingBatches(BatchHandling(self.handle, give_up=self.give_up), queue=queue)


async def test_a_batch_is_handled_together_and_each_document_once() -> None:
    handling, queue = Handling(), Later()

    outcome = await handling.on(queue).handle(messages("a", "b", "a"))

    assert outcome == BatchOutcome(done=3, postponed=0)
    assert handling.handled == [["a", "b"]]
    assert queue.sent == []


async def test_what_a_dependency_holds_up_waits_and_uses_up_no_attempt() -> None:
    handling, queue = Handling(lambda _: EmbeddingUnavailableError("Not now.")), Later()

    outcome = await handling.on(queue).handle(messages("a", "b"))

    assert outcome == BatchOutcome(done=0, postponed=2)
    assert queue.sent == [("a", UNAVAILABLE_DELAY_S), ("b", UNAVAILABLE_DELAY_S)]
    assert handling.given_up == {}


async def test_only_what_is_not_done_yet_waits() -> None:
    handling = Handling(lambda name: EmbeddingUnavailableError("Not now.") if name == "second" else None)
    queue = Later()

    outcome = await handling.on(queue).handle([*messages("first"), *messages("second", attempt=3)])

    assert outcome == BatchOutcome(done=1, postponed=1)
    assert queue.sent == [("second", UNAVAILABLE_DELAY_S)]


async def test_a_document_that_fails_by_itself_is_given_up_and_stops_no_other() -> None:
    handling, queue = Handling(lambda name: ZeroDivisionError() if name == "bad" else None), Later()

    outcome = await handling.on(queue).handle(messages("a", "bad", "b"))

    assert outcome == BatchOutcome(done=3, postponed=0)
    assert handling.given_up == {"bad": "internal"}
    assert handling.handled == [["a"], ["b"]]


async def test_a_document_at_its_last_attempt_is_given_up_unseen() -> None:
    handling = Handling()

    await handling.on(Later()).handle(messages("a", attempt=MAX_ATTEMPTS))

    assert (handling.handled, handling.given_up) == ([], {"a": "gave_up"})


async def test_where_messages_cannot_be_put_back_the_old_ones_stay() -> None:
    handling = Handling(lambda _: EmbeddingUnavailableError("Not now."))

    with pytest.raises(DependencyError, match="queue is down"):
        await handling.on(Later(down=True)).handle(messages("a"))
