"""Documents on their way into the index."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from assistant.documents.work import EmbeddingLimits
from assistant.documents.worker import (
    MAX_TRIES_ALONE,
    UNAVAILABLE_DELAY_S,
    BatchHandling,
    ConsumerLimits,
    PostponingBatches,
    QueueConsumer,
    SharedLock,
    WorkerLimits,
    give_up_unqueued,
)
from assistant.domain.clock import Deadline
from assistant.domain.documents import INDEX_LOST, DocumentState, PassageQuery, SearchFilters
from assistant.domain.errors import (
    DeadlineExceededError,
    DependencyError,
    EmbeddingUnavailableError,
    OverloadedError,
    PassageTooLongError,
)
from assistant.stores.ports import MAX_ATTEMPTS, PassageIndex, QueuedDocument
from assistant.stores.sqlite_queue import SqliteIngestionQueue
from tests.stage.tenant_stores import SteppedClock
from tests.unit.documents.scene import (
    QUICK,
    QUICK_EMBEDDING,
    CommandedEmbedder,
    Knowledge,
    document,
    until,
    vector_of,
)


async def test_an_added_document_becomes_live(knowledge: Knowledge) -> None:
    await knowledge.add(document())
    assert await knowledge.state() == DocumentState.RECEIVED
    await knowledge.work()
    status = await knowledge.status()
    assert (status.state, status.live_content_hash) == (DocumentState.LIVE, document().content_hash())
    assert (status.passage_count, status.token_count) == (1, 7)
    assert await knowledge.found() == {"refill": ["Wait until day 24."]}


async def test_the_cited_span_is_the_passage_in_the_stored_text(knowledge: Knowledge) -> None:
    content = "# About refill\n\n## Steps\n\n" + "\n\n".join(f"Step {n} is to wait. " * 9 for n in range(9))
    await knowledge.know(document(content=content))
    parsed = await knowledge.stores.documents.get_parsed("refill", document(content=content).content_hash())
    assert parsed is not None
    texts = (await knowledge.found())["refill"]
    assert len(texts) > 3
    assert all(text in parsed.text for text in texts)


async def test_many_documents_fill_requests_and_stay_within_the_bound(knowledge: Knowledge) -> None:
    await knowledge.know(*(document(f"d{number}") for number in range(300)))
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 300}
    assert len(knowledge.embedder.texts) == 2 * 300  # a passage and a title each
    assert knowledge.embedder.calls < 30
    assert knowledge.embedder.most_in_flight <= EmbeddingLimits().requests_in_flight


async def test_a_document_that_cannot_be_parsed_fails_alone(knowledge: Knowledge) -> None:
    await knowledge.know(document("good"), document("empty", content="<!-- nothing -->"))
    status = await knowledge.status("empty")
    assert (status.state, status.failure_code) == (DocumentState.FAILED, "document_invalid")
    assert status.failure_reason == "empty: there is no text in it."
    assert await knowledge.state("good") == DocumentState.LIVE


@pytest.mark.parametrize(
    ("error", "code"),
    [(PassageTooLongError("over the limit"), "passage_too_long"), (ZeroDivisionError(), "internal")],
)
async def test_a_passage_that_the_endpoint_refuses_or_a_mistake_fails_its_document_alone(
    knowledge: Knowledge, error: Exception, code: str
) -> None:
    async def refuse(texts: Sequence[str]) -> None:
        if any("About bad" in text for text in texts):
            raise error

    knowledge.embedder.before = refuse
    await knowledge.know(*(document(name) for name in ("a", "bad", "c")))
    assert (await knowledge.status("bad")).failure_code == code
    assert [await knowledge.state(name) for name in "ac"] == [DocumentState.LIVE] * 2


async def test_a_change_that_fails_leaves_the_old_content_answering(knowledge: Knowledge) -> None:
    await knowledge.know(document(content="Old."))
    await knowledge.know(document(content="<!-- -->"))
    status = await knowledge.status()
    assert (status.state, status.failure_code) == (DocumentState.STALE, "document_invalid")
    assert status.live_content_hash == document(content="Old.").content_hash()
    assert await knowledge.found() == {"refill": ["Old."]}


async def test_replaced_text_is_purged_when_the_worker_is_idle(knowledge: Knowledge) -> None:
    await knowledge.know(document(content="Old zolpidem."))
    await knowledge.add(document(content="New."))

    async def purged() -> bool:
        return not knowledge.files_with("Old zolpidem", below="index")

    async with knowledge.working():
        await until(purged)


@pytest.mark.parametrize("error", [EmbeddingUnavailableError, OverloadedError])
async def test_a_failing_endpoint_is_retried(knowledge: Knowledge, error: type[Exception]) -> None:
    async def fail_twice(_texts: Sequence[str]) -> None:
        if knowledge.embedder.calls <= 2:
            raise error("not now")

    knowledge.embedder.before = fail_twice
    await knowledge.know(document())
    assert await knowledge.state() == DocumentState.LIVE
    assert knowledge.embedder.calls == 3


async def test_a_slow_endpoint_is_asked_for_less_at_a_time(knowledge: Knowledge) -> None:
    """It answers eight texts within the timeout, and no more."""

    async def be_slow(texts: Sequence[str]) -> None:
        if len(texts) > 8:
            raise DeadlineExceededError("The deadline passed.")

    knowledge.embedder.before = be_slow
    await knowledge.know(*(document(f"d{number}") for number in range(100)))
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 100}
    assert len(knowledge.embedder.texts) == 2 * 100  # none is embedded twice


async def test_a_request_may_wait_for_its_turn_longer_than_it_is_retried(knowledge: Knowledge) -> None:
    failed = set[str]()

    async def fail_once(texts: Sequence[str]) -> None:
        await asyncio.sleep(0.02)  # one after the other they take longer than a request is retried
        if texts[0] not in failed:
            failed.add(texts[0])
            raise EmbeddingUnavailableError("not now")

    knowledge.embedder.before = fail_once
    limits = replace(QUICK_EMBEDDING, passages_per_request=4)
    await knowledge.add(*(document(f"d{number}") for number in range(64)))
    await knowledge.work(knowledge.worker(embedding_limits=limits, endpoint=asyncio.Semaphore(1)))
    assert knowledge.embedder.calls == 2 * len(failed)


async def test_documents_of_a_batch_go_live_while_others_are_embedded(knowledge: Knowledge) -> None:
    long = "# About\n\n" + "\n\n".join(f"Step {n} is to wait. " * 9 for n in range(200))
    added = [document(f"d{number}", content=long) for number in range(3)]

    async def is_first_live() -> bool:
        return await knowledge.state("d0") == DocumentState.LIVE

    async def wait_for_the_first(texts: Sequence[str]) -> None:
        if any("About d2" in text for text in texts):
            await until(is_first_live)

    knowledge.embedder.before = wait_for_the_first
    await knowledge.know(*added)
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 3}


async def test_a_long_outage_of_the_endpoint_loses_no_document(knowledge: Knowledge) -> None:
    down = asyncio.Event()
    down.set()

    async def fail_while_down(_texts: Sequence[str]) -> None:
        if down.is_set():
            raise EmbeddingUnavailableError("down")

    knowledge.embedder.before = fail_while_down
    await knowledge.add(document("a"), document("b"))
    working = asyncio.create_task(knowledge.work())
    # Each time a batch goes back it is asked for anew; more often than a message has attempts.
    await until(lambda: _is(knowledge.embedder.calls > 12 * MAX_ATTEMPTS))
    down.clear()
    await working
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 2}


async def _is(value: bool) -> bool:
    return value


async def test_a_stop_returns_unfinished_documents_to_the_queue(knowledge: Knowledge) -> None:
    asked, _ = knowledge.embedder.hold()
    await knowledge.add(document())
    worker = knowledge.worker(limits=WorkerLimits(stop_within_s=0.05))
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(asked.wait(), 60)
    worker.stop()
    await asyncio.wait_for(running, 60)
    (message,) = await knowledge.stores.queue.receive(limit=9, wait_s=0, visibility_timeout_s=0.01)
    assert (message.document_id, message.attempt) == ("refill", 1)


async def test_a_stop_lets_a_batch_finish(knowledge: Knowledge) -> None:
    asked, go_on = knowledge.embedder.hold()
    await knowledge.add(document())
    worker = knowledge.worker()
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(asked.wait(), 60)
    worker.stop()
    go_on.set()
    await asyncio.wait_for(running, 60)
    assert await knowledge.state() == DocumentState.LIVE
    assert await knowledge.stores.queue.depth() == 0


async def test_a_document_whose_processing_alone_never_ended_is_given_up(knowledge: Knowledge) -> None:
    await knowledge.add(document("poison"))
    for _ in range(MAX_TRIES_ALONE):  # workers that were killed while they had only it in their hands
        await knowledge.worker().pipeline.count_alone("poison", 1)
    await knowledge.know(document("good"))
    status = await knowledge.status("poison")
    assert (status.state, status.failure_code) == (DocumentState.FAILED, "gave_up")
    assert await knowledge.state("good") == DocumentState.LIVE
    assert not [text for text in knowledge.embedder.texts if "poison" in text]


async def test_deliveries_to_killed_workers_fail_no_document(knowledge: Knowledge) -> None:
    await knowledge.add(*(document(f"d{number}") for number in range(5)))
    for _ in range(MAX_ATTEMPTS - 2):
        assert await knowledge.stores.queue.receive(limit=5, wait_s=5, visibility_timeout_s=0.001)
    await knowledge.work()
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 5}
    assert (await knowledge.status("d0")).tried_alone == 0


async def test_a_dependency_that_fails_uses_up_no_try_alone(knowledge: Knowledge) -> None:
    async def fail(_texts: Sequence[str]) -> None:
        if knowledge.embedder.calls <= 4 * MAX_TRIES_ALONE:
            raise EmbeddingUnavailableError("down")

    knowledge.embedder.before = fail
    await knowledge.add(document("suspect"))
    await knowledge.worker().pipeline.count_alone("suspect", 1)
    await knowledge.work()
    assert await knowledge.state("suspect") == DocumentState.LIVE


async def test_no_batch_runs_while_one_document_is_handled_alone() -> None:
    lock = SharedLock()
    seen: list[str] = []

    async def together(name: str) -> None:
        async with lock.shared():
            seen.append(name)
            await asyncio.sleep(0)
            seen.append(name)

    async def alone() -> None:
        async with lock.exclusive():
            seen.append("alone")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append("alone")

    await asyncio.gather(together("a"), together("b"), alone(), together("c"), alone())
    places = [place for place, name in enumerate(seen) if name == "alone"]
    assert [places[1] - places[0], places[3] - places[2]] == [1, 1]
    assert sorted(seen) == ["a", "a", *["alone"] * 4, "b", "b", "c", "c"]


async def test_a_document_that_was_given_up_is_retried_by_the_next_worker(knowledge: Knowledge) -> None:
    await knowledge.add(document("poison"), document("good"))
    for _ in range(MAX_TRIES_ALONE):
        await knowledge.worker().pipeline.count_alone("poison", 1)
    await knowledge.work()
    assert (await knowledge.status("poison")).failure_code == "gave_up"
    await knowledge.work()
    status = await knowledge.status("poison")
    assert (status.state, status.failure_code, status.tried_alone) == (DocumentState.LIVE, None, 0)


async def test_a_document_whose_request_was_cut_before_it_was_queued_is_given_up_and_retried(
    knowledge: Knowledge,
) -> None:
    await knowledge.add(document("cut"))
    queue = knowledge.stores.queue
    messages = await queue.receive(limit=1, wait_s=5, visibility_timeout_s=60)
    await queue.delete_many([message.receipt for message in messages])
    ingestion = knowledge.ingestion()
    await give_up_unqueued(ingestion, after=timedelta(hours=1))
    assert await knowledge.state("cut") == DocumentState.RECEIVED
    await give_up_unqueued(ingestion, after=timedelta())
    status = await knowledge.status("cut")
    assert (status.state, status.failure_code) == (DocumentState.FAILED, "gave_up")
    assert "ended before it was queued" in str(status.failure_reason)
    await knowledge.stores.states.put_many([status.model_copy(update={"state": DocumentState.RECEIVED})])
    await knowledge.work()  # a worker that starts finds nothing queued
    assert await knowledge.state("cut") == DocumentState.LIVE


async def test_giving_up_does_not_fail_a_live_document(knowledge: Knowledge) -> None:
    await knowledge.know(document())
    await knowledge.worker().pipeline.fail("refill", code="gave_up", reason="never ended")
    assert await knowledge.state() == DocumentState.LIVE


async def test_a_document_that_keeps_coming_back_is_processed_alone(knowledge: Knowledge) -> None:
    await knowledge.add(document("suspect"))
    for _ in range(2):
        assert await knowledge.stores.queue.receive(limit=1, wait_s=5, visibility_timeout_s=0.01)
    await knowledge.add(*(document(f"good{number}") for number in range(5)))
    asked: list[Sequence[str]] = []

    async def note(texts: Sequence[str]) -> None:
        asked.append(texts)

    knowledge.embedder.before = note
    await knowledge.work()
    (together,) = [texts for texts in asked if any("suspect" in text for text in texts)]
    assert {text.split()[1] for text in together} == {"suspect"}
    assert await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: 6}


async def test_a_missing_stored_document_fails(knowledge: Knowledge) -> None:
    await knowledge.add(document())
    await knowledge.stores.documents.delete("refill")
    await knowledge.work()
    status = await knowledge.status()
    assert (status.state, status.failure_code) == (DocumentState.FAILED, "not_found")


async def test_an_interrupted_addition_fails_with_its_reason(knowledge: Knowledge) -> None:
    await knowledge.add(document(content="Received."))
    await knowledge.stores.documents.put(document(content="Newer, whose state was never written."))
    await knowledge.work()
    assert (await knowledge.status()).failure_reason == "Adding the document was interrupted; add it again."
    assert await knowledge.found() == {}


async def test_a_lost_index_is_filled_again_from_the_stored_documents(tmp_path: Path) -> None:
    first = Knowledge.below(tmp_path)
    await first.add(document("a"), document("b"), document("gone"))
    await first.work()
    await first.withdraw("gone")
    await first.work()
    await first.stores.close()
    for path in sorted((tmp_path / "index").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    second = Knowledge.below(tmp_path, CommandedEmbedder())
    await second.work()
    assert sorted(await second.found()) == ["a", "b"]
    assert await second.stores.states.count_by_state() == {DocumentState.LIVE: 2, DocumentState.WITHDRAWN: 1}
    await second.stores.close()


async def test_only_what_the_index_has_lost_is_enqueued_and_only_once(knowledge: Knowledge) -> None:
    await knowledge.know(document("kept"), document("lost"))
    await knowledge.stores.index.delete_documents(["lost"])
    for _ in range(2):  # the second start finds the first one's message waiting
        await knowledge.worker().prepare()
        assert await knowledge.stores.queue.depth() == 1
    states = await knowledge.stores.states.get_many(["kept", "lost"])
    assert (states["kept"].state, states["lost"].state) == (DocumentState.LIVE, DocumentState.STALE)
    assert states["lost"].failure_code == INDEX_LOST
    await knowledge.work()
    again = await knowledge.stores.states.get("lost")
    assert again is not None
    assert (again.state, again.failure_code) == (DocumentState.LIVE, None)


async def test_an_index_of_an_older_format_is_filled_again(tmp_path: Path) -> None:
    first = Knowledge.below(tmp_path)
    await first.add(document("live"), document("stale", content="Old."))
    await first.work()
    await first.add(document("stale", content="<!-- nothing -->"))
    await first.work()
    assert await first.state("stale") == DocumentState.STALE
    await first.stores.close()
    (folder,) = (path for path in (tmp_path / "index").iterdir() if path.is_dir())
    older = folder.rename(folder.with_name(folder.name.replace("v2-", "v1-", 1)))
    second = Knowledge.below(tmp_path, CommandedEmbedder())
    await second.work()
    assert not older.exists()
    assert await second.found() == {"live": ["Wait until day 24."]}
    assert await second.state("live") == DocumentState.LIVE
    # What answered of the stale one is stored nowhere: it says so instead of claiming an older content.
    stale = await second.status("stale")
    assert (stale.state, stale.live_content_hash) == (DocumentState.FAILED, None)
    await second.stores.close()


async def test_a_complete_index_is_not_filled_again(knowledge: Knowledge) -> None:
    await knowledge.know(document("live"), document("stale", content="Old."))
    await knowledge.know(document("stale", content="<!-- nothing -->"))
    knowledge.embedder.texts.clear()
    await knowledge.work()
    assert knowledge.embedder.texts == []
    assert await knowledge.state("stale") == DocumentState.STALE


async def test_questions_and_titles_are_embedded_and_searched(knowledge: Knowledge) -> None:
    await knowledge.know(document(questions=["May it be early?"], content="The plan needs prior steps (PS)."))
    asked = PassageQuery(
        text="early",
        vector=vector_of("May it be early?"),
        filters=SearchFilters(),
        labels=frozenset(),
    )
    found = await knowledge.stores.search.search(asked, deadline=Deadline.after(60, clock=knowledge.clock))
    (hit,) = found.documents
    assert (hit.document_id, hit.title_cosine, hit.text_score) == ("refill", pytest.approx(1.0), None)
    assert (hit.title_score or 0.0) > 0.0
    known = await knowledge.stores.search.known_words()
    assert known.abbreviations == {"ps": "prior steps"}


async def test_a_question_over_the_model_s_limit_has_the_first_passage_s_vector(knowledge: Knowledge) -> None:
    long = "w " * 65  # the model of these tests reads 64 tokens
    await knowledge.know(document(questions=[long.strip()]))
    assert await knowledge.state() == DocumentState.LIVE
    assert not [text for text in knowledge.embedder.texts if "w w" in text]
    asked = PassageQuery(
        text="",
        vector=vector_of("About refill\nWait until day 24."),
        filters=SearchFilters(),
        labels=frozenset(),
    )
    found = await knowledge.stores.search.search(asked, deadline=Deadline.after(60, clock=knowledge.clock))
    assert [hit.title_cosine for hit in found.documents] == [pytest.approx(1.0)]


class CountedIndex:
    """A tenant's index that counts its purges."""

    def __init__(self, inner: PassageIndex) -> None:
        self._inner = inner
        self.purges = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def purged(self, times: int) -> bool:
        return self.purges >= times

    async def optimize(self) -> None:
        self.purges += 1
        await self._inner.optimize()


async def test_replaced_text_is_purged_at_once_and_a_second_time_later(knowledge: Knowledge) -> None:
    """An index may hold deletions back for a while: only the second purge is sure to have them gone."""
    index = CountedIndex(knowledge.stores.index)
    knowledge.stores.index = cast("Any", index)
    async with knowledge.working(knowledge.worker(limits=replace(QUICK, optimize_again_after_s=0.1))):
        for purges, content in ((2, "Wait until day 24."), (4, "Wait until day 25.")):
            await knowledge.add(document(content=content))
            await until(partial(index.purged, purges))
        assert index.purges == 4


async def test_a_tenant_s_document_does_not_wait_for_the_queue_of_another(tmp_path: Path) -> None:
    endpoint, served, order = asyncio.Semaphore(1), CommandedEmbedder(), list[str]()
    many, one = (Knowledge.below(tmp_path / name, served) for name in ("many", "one"))
    await many.add(*(document(f"rule-{n}") for n in range(600)))  # more than three lanes hold
    await one.add(document("only"))
    working: list[asyncio.Task[None]] = []

    async def parsed(tenant: Knowledge, count: int) -> bool:
        return (await tenant.stores.states.count_by_state()).get(DocumentState.PARSED, 0) >= count

    async def note(texts: Sequence[str]) -> None:
        order.extend(texts)
        if not working:  # the second worker begins when the first has filled the line with its three lanes
            await until(partial(parsed, many, 3 * QUICK.consumer.documents_per_batch))
            working.append(asyncio.create_task(one.work(one.worker(endpoint=endpoint))))
            await until(partial(parsed, one, 1))

    served.before = note
    await many.work(many.worker(endpoint=endpoint))
    await working[0]
    assert next(place for place, text in enumerate(order) if "only" in text) < len(order) / 2


# --- batches that Lambda received -------------------------------------------------------------------------
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


# --- a batch stays hidden ---------------------------------------------------------------------------------
VISIBILITY_S = 0.3
LIMITS = ConsumerLimits(receive_wait_s=0.0, visibility_timeout_s=VISIBILITY_S, pause_after_error_s=0.01)


class ObservedQueue(SqliteIngestionQueue):
    """Counts extensions; fails for ``failures_left`` calls."""

    extensions = 0
    failures_left = 0

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        self.extensions += 1
        if self.failures_left:
            self.failures_left -= 1
            raise DependencyError("The queue is down.")
        await super().extend_many(receipts, visibility_timeout_s=visibility_timeout_s)


@dataclass
class Working:
    """A consumer in the middle of a batch, on a clock that stands still."""

    queue: ObservedQueue
    other: SqliteIngestionQueue
    clock: SteppedClock
    limits: ConsumerLimits = LIMITS
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        consumer = QueueConsumer(
            self.queue, BatchHandling(self.handle, give_up=self.give_up), limits=self.limits
        )
        self.running = asyncio.create_task(consumer.run(self.stopping))

    async def handle(self, document_ids: Sequence[str]) -> None:
        self.begun.set()
        await self.may_end.wait()

    async def give_up(self, document_id: str, *, code: str, reason: str) -> None:
        raise AssertionError(code)

    async def next_extension(self) -> None:
        seen = self.queue.extensions
        await until(lambda: self._is_extended_after(seen))

    async def _is_extended_after(self, seen: int) -> bool:
        return self.queue.extensions > seen

    async def other_receives(self) -> list[QueuedDocument]:
        return await self.other.receive(limit=9, wait_s=0.0, visibility_timeout_s=VISIBILITY_S)


@asynccontextmanager
async def working(folder: Path, limits: ConsumerLimits = LIMITS) -> AsyncIterator[Working]:
    clock = SteppedClock()
    queue = ObservedQueue(folder / "queue.sqlite", clock=clock)
    await queue.send_many(["a", "b"])
    work = Working(queue, SqliteIngestionQueue(folder / "queue.sqlite", clock=clock), clock, limits)
    try:
        async with asyncio.timeout(30):
            await work.begun.wait()
            yield work
    finally:
        work.stopping.set()
        work.may_end.set()
        await asyncio.wait([work.running])
        await queue.close()
        await work.other.close()


async def test_a_long_job_is_delivered_to_no_other_worker(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        for _ in range(4):
            work.clock.step(0.9 * VISIBILITY_S)
            await work.next_extension()
            await work.next_extension()  # the one before may have begun before the step
            assert await work.other_receives() == []


async def test_a_failed_extension_is_made_up_for(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        work.queue.failures_left = 1
        await work.next_extension()
        assert work.queue.failures_left == 0
        work.clock.step(0.6 * VISIBILITY_S)
        await work.next_extension()
        await work.next_extension()
        work.clock.step(0.6 * VISIBILITY_S)
        assert await work.other_receives() == []


async def test_extending_ends_with_the_work(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        await work.next_extension()
        work.may_end.set()
        await until(lambda: _is_empty(work.queue))
        await until(_nobody_extends)


async def test_work_that_hangs_is_let_go_of(tmp_path: Path) -> None:
    limits = ConsumerLimits(receive_wait_s=0.0, visibility_timeout_s=VISIBILITY_S, longest_hold_s=0.2)
    async with working(tmp_path, limits) as work:
        await until(_nobody_extends)
        work.clock.step(VISIBILITY_S)
        assert {message.document_id for message in await work.other_receives()} == {"a", "b"}


async def test_a_cancelled_consumer_extends_nothing_more(tmp_path: Path) -> None:
    async with working(tmp_path) as work:
        work.running.cancel()
        await asyncio.wait([work.running])
        assert await _nobody_extends()
        assert {message.document_id for message in await work.other_receives()} == {"a", "b"}


async def _nobody_extends() -> bool:
    return all(task.get_name() != "extending visibility" for task in asyncio.all_tasks())


async def _is_empty(queue: SqliteIngestionQueue) -> bool:
    return await queue.depth() == 0
