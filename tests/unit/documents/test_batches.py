"""Batches that Lambda received: each message is done, or waits as a new message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pytest

from assistant.documents.worker import UNAVAILABLE_DELAY_S, BatchHandling, PostponingBatches
from assistant.domain.errors import DependencyError, EmbeddingUnavailableError
from assistant.stores.ports import MAX_ATTEMPTS, QueuedDocument


class Later:
    """A queue that remembers the messages that it gets again; while ``down`` it is unavailable."""

    def __init__(self, *, down: bool = False) -> None:
        self.sent: list[tuple[str, int]] = []
        self._down = down

    async def send_later(self, document_ids: Sequence[str], *, delay_s: int) -> None:
        if self._down:
            raise DependencyError("The queue is down.")
        self.sent += [(document_id, delay_s) for document_id in document_ids]

    async def put_back(self, receipts: Sequence[str]) -> None:
        raise AssertionError(receipts)


def messages(*document_ids: str, attempt: int = 1) -> list[QueuedDocument]:
    return [QueuedDocument(f"receipt-{n}", name, attempt) for n, name in enumerate(document_ids)]


class _WorkerStoppedError(BaseException):
    """The process has ended: no code after it runs."""


class Tries:
    """Counts that outlive a worker. Finished documents are not counted, as live documents are not."""

    def __init__(self, handling: Handling) -> None:
        self._handling = handling
        self._counts: Counter[str] = Counter()

    async def tries_alone(self, document_ids: Sequence[str]) -> Mapping[str, int]:
        return {document_id: self._counts[document_id] for document_id in document_ids}

    async def count_alone(self, document_id: str, tries: int) -> None:
        if tries < 0 or [document_id] not in self._handling.handled:
            self._counts[document_id] += tries


class Handling:
    """Handles ids until ``fails`` raises for one of them; remembers what was handled and given up."""

    def __init__(self, fails: Callable[[str], BaseException | None] = lambda _: None) -> None:
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

    def on(self, queue: Later, *, tries: Tries | None = None) -> PostponingBatches:
        return PostponingBatches(BatchHandling(self.handle, give_up=self.give_up, counter=tries), queue=queue)


async def test_a_batch_is_handled_together_and_each_document_once() -> None:
    handling, queue = Handling(), Later()

    postponed = await handling.on(queue).handle(messages("a", "b", "a"))

    assert postponed == 0
    assert handling.handled == [["a", "b"]]
    assert queue.sent == []


async def test_only_unfinished_messages_are_postponed() -> None:
    handling = Handling(lambda name: EmbeddingUnavailableError("Not now.") if name == "second" else None)
    queue = Later()

    postponed = await handling.on(queue).handle([*messages("first"), *messages("second", attempt=3)])

    assert postponed == 1
    assert queue.sent == [("second", UNAVAILABLE_DELAY_S)]
    assert handling.given_up == {}


async def test_a_document_that_fails_by_itself_is_given_up_and_stops_no_other() -> None:
    handling, queue = Handling(lambda name: ZeroDivisionError() if name == "bad" else None), Later()

    postponed = await handling.on(queue).handle(messages("a", "bad", "b"))

    assert postponed == 0
    assert handling.given_up == {"bad": "internal"}
    assert handling.handled == [["a"], ["b"]]


async def test_ten_documents_that_stop_the_worker_are_given_up_before_they_become_dead_letters() -> None:
    """A function that ends early deletes no message: all are delivered again."""
    poison = [f"d{number}" for number in range(9)]
    handling = Handling(lambda name: _WorkerStoppedError() if name in poison else None)
    tries = Tries(handling)
    delivery = 0
    while set(handling.given_up) < set(poison):
        delivery += 1
        assert delivery <= MAX_ATTEMPTS
        with suppress(_WorkerStoppedError):
            await handling.on(Later(), tries=tries).handle(messages("good", *poison, attempt=delivery))

    assert handling.given_up == dict.fromkeys(poison, "gave_up")
    assert "good" in {name for batch in handling.handled for name in batch}


async def test_deliveries_without_counted_tries_give_up_no_document() -> None:
    handling = Handling()

    await handling.on(Later(), tries=Tries(handling)).handle(messages("a", "b", attempt=MAX_ATTEMPTS))

    assert (handling.handled, handling.given_up) == ([["a"], ["b"]], {})


async def test_messages_that_cannot_be_postponed_stay_in_their_queue() -> None:
    handling = Handling(lambda _: EmbeddingUnavailableError("Not now."))

    with pytest.raises(DependencyError, match="queue is down"):
        await handling.on(Later(down=True)).handle(messages("a"))
