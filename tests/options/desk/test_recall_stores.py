"""Recall over a table: pages, conditions, and a whole sweep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.documents.parsing import parse_document
from assistant.domain.answers import CitedUnit, QuotedUnit, Sent, Sentence, Support, Verdict, VerdictLabel
from assistant.domain.documents import Document, DocumentState, MediaType, ParsedDocument
from assistant.domain.errors import ConflictError, DependencyError
from assistant.options.desk.lines import ContentLines, KeptContents, units_of
from assistant.options.desk.recalls import (
    GONE,
    KnownContent,
    RecallRevision,
    RecallState,
    SentReply,
    StoredRecalls,
    StoredSends,
)
from assistant.options.desk.sweep import RecallSweep
from assistant.stores.desk import DESK_TABLE
from assistant.stores.documents import STATES_TABLE
from assistant.stores.records import RECORDS_TABLE
from assistant.stores.table import keyed, sortable
from tests.contracts import samples
from tests.stage.running_service import live_status
from tests.stage.tenant_stores import TenantStores

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
UNIT = QuotedUnit(document_id="wait", content_hash="h1", span=(0, 4))


@pytest.fixture
def recalls(stores: TenantStores) -> StoredRecalls:
    return StoredRecalls(stores.get(DESK_TABLE))


def known(number: int = 0, *, name: str = "wait", is_looked_at: bool = True) -> KnownContent:
    return KnownContent(document_id=name, content="h1", number=number, noted_at=AT, is_looked_at=is_looked_at)


def item(
    send_id: str = "s1", revision: int = 1, *, due: int = 1, document_id: str = "wait"
) -> RecallRevision:
    reply = SentReply(
        send_id=send_id,
        answer_id="a1",
        conversation_id="c1",
        agent="ann",
        sent_at=AT,
        reader_labels=(),
        document_id=document_id,
        units=(UNIT,),
    )
    return RecallRevision(
        reply=reply, number=0, revision=revision, at=AT, by="recall", due_on=date(2026, 3, due)
    )


async def test_the_first_content_stays_and_the_next_follows_it_once(recalls: StoredRecalls) -> None:
    await recalls.add_known(known())
    await recalls.add_known(known(5))
    assert await recalls.known(["wait", "other"]) == {"wait": known()}
    new = known(1, is_looked_at=False)
    assert await recalls.put_known(new, after=known())
    assert not await recalls.put_known(known(1), after=known())
    await recalls.add_known(known(name="other"))
    assert await recalls.known(["other", "wait"]) == {"other": known(name="other"), "wait": new}


async def test_a_revision_follows_the_newest_one_while_the_content_is_the_known_one(
    recalls: StoredRecalls,
) -> None:
    await recalls.add_known(known())
    await recalls.put_item(item(), known=known())
    for refused in (item(), item(revision=3)):
        with pytest.raises(ConflictError):
            await recalls.put_item(refused)
    with pytest.raises(ConflictError):
        await recalls.put_item(item(revision=2), known=known(1))
    assert await recalls.item(item().reply.item_id) == item()
    await recalls.put_item(item(revision=2), known=known())
    assert await recalls.history(item().reply.item_id) == [item(), item(revision=2)]


async def test_sends_of_several_reads_come_in_order_and_once(
    stores: TenantStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.options.desk.recalls._AT_ONCE", 2)
    moved = 3
    for number in range(8):
        await stores.records.append_sent(f"a{number}", Sent(send_id=f"s{number}", text="Sent."), agent="ana")
        if number == moved:
            await stores.outbox.confirm(await stores.outbox.pending(limit=9))
    await stores.records.append_verdict("a0", Verdict(verdict_id="v1", label=VerdictLabel.GOOD), agent="ana")
    sends = [stored.sent.send_id async for _, stored in StoredSends(stores.get(RECORDS_TABLE)).after("")]
    assert sends == [f"s{number}" for number in range(8)]


async def know(stores: TenantStores, text: str) -> Document:
    document = Document(document_id="wait", title="Wait", content=text, media_type="text/plain")
    await stores.documents.put_parsed("wait", document.content_hash(), parse_document(document))
    await stores.states.put_many([live_status(document)])
    return document


async def sent(stores: TenantStores, text: str) -> QuotedUnit:
    """Send a reply that cites the first nine characters of a text."""
    document = await know(stores, text)
    unit = UNIT.model_copy(update={"content_hash": document.content_hash(), "span": (0, 9)})
    await stores.records.put_answer(samples.answer().model_copy(update={"quoted": (unit,)}))
    await stores.records.append_sent("a1", Sent(send_id="s1", text=text[:9]), agent="ana")
    return unit


def sweep_of(stores: TenantStores, recalls: StoredRecalls) -> RecallSweep:
    services: Any = SimpleNamespace(
        store=stores.desk,
        records=stores.records,
        knowledge=SimpleNamespace(documents=stores.documents, states=stores.states),
    )
    return RecallSweep(services, recalls, StoredSends(stores.get(RECORDS_TABLE)), due_days=3)


async def test_all_documents_are_looked_at_once_a_day_and_else_those_that_were_written(
    stores: TenantStores, recalls: StoredRecalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a new process. A status that a release before wrote is not listed by its write."""
    looked: list[str] = []
    real = stores.states.list

    async def listed(**wanted: Any) -> list[Any]:
        looked.append("all")
        return await real(**wanted)

    monkeypatch.setattr(stores.states, "list", listed)
    desk, states = stores.get(DESK_TABLE), stores.get(STATES_TABLE)

    async def open_items() -> int:
        await sweep_of(stores, recalls)()
        return len((await recalls.items_in("open", after=None, limit=9))[0])

    await sent(stores, "Two days.\n\nBy mail.")
    assert (await open_items(), bool(looked)) == (0, True)
    looked.clear()
    await know(stores, "By mail.\n\nThree days.")
    await states.change(("documents", "wait"), remove=["listed", "listed_at"])
    assert (await open_items(), looked) == (0, [])
    await know(stores, "By mail.\n\nThree days.")
    assert (await open_items(), looked) == (1, [])
    await know(stores, "Two days.")
    await states.change(("documents", "wait"), remove=["listed", "listed_at"])
    yesterday = await stores.desk.now() - timedelta(days=1)
    await desk.put(keyed(("recall-walk", "walk"), until=sortable(yesterday)))
    assert (await open_items(), bool(looked)) == (0, True)


async def test_a_reply_on_a_document_that_was_gone_before_recall_saw_it_is_listed(
    stores: TenantStores, recalls: StoredRecalls
) -> None:
    unit = await sent(stores, "Two days.\n\nBy mail.")
    (status,) = (await stores.states.get_many(["wait"])).values()
    await stores.states.put_many([status.model_copy(update={"state": DocumentState.WITHDRAWN})])
    await sweep_of(stores, recalls)()
    ((listed,), _) = await recalls.items_in("open", after=None, limit=9)
    assert listed.reply.units == (unit,)


async def test_a_content_behind_a_change_that_was_never_looked_at_is_found_by_the_next_run(
    stores: TenantStores, recalls: StoredRecalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sweep = await sent(stores, "Two days.\n\nBy mail."), sweep_of(stores, recalls)
    await sweep()
    await know(stores, "Two days.\n\nBy post.")
    with monkeypatch.context() as away:
        away.setattr(recalls, "replies", lambda _: unavailable())
        with pytest.raises(DependencyError):
            await sweep()
    await know(stores, "By mail.\n\nThree days.")
    await sweep()
    ((listed,), _) = await recalls.items_in("open", after=None, limit=9)
    assert listed.reply.send_id == "s1"


async def unavailable() -> AsyncIterator[Any]:
    raise DependencyError("The store is away.")
    yield


async def test_items_come_in_pages_by_state_and_by_document(recalls: StoredRecalls) -> None:
    for number in range(5):
        await recalls.put_item(item(f"s{number}", due=9 - number))
    await recalls.put_item(item("s5", document_id="other"))
    closed = item("s0", 2, due=9).model_copy(update={"state": RecallState.TOLD})
    await recalls.put_item(closed)

    async def every(items: Callable[..., Any]) -> list[str]:
        found, after = list[str](), None
        while True:
            page, after = await items(after=after, limit=2)
            found += [each.reply.send_id for each in page]
            if after is None:
                return found

    assert await every(partial(recalls.items_in, "open")) == ["s5", "s4", "s3", "s2", "s1"]
    assert await every(partial(recalls.items_in, "told")) == ["s0"]
    assert sorted(await every(partial(recalls.items, "wait"))) == ["s0", "s1", "s2", "s3", "s4"]
    assert len(await every(partial(recalls.items, None))) == 6


async def test_replies_of_several_reads_come_once(
    recalls: StoredRecalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant.options.desk.recalls._AT_ONCE", 2)
    for number in range(5):
        await recalls.add_reply(item(f"s{number}").reply)
    assert [reply.send_id async for reply in recalls.replies("wait")] == [f"s{number}" for number in range(5)]


TABLE = "| Plan | Days |\n| --- | --- |\n| Gold | {days} |\n| Silver | 30 |\n"


def parsed(text: str, media_type: MediaType = "text/plain") -> ParsedDocument:
    return parse_document(Document(document_id="d", title="D", content=text, media_type=media_type))


def kept(**contents: ParsedDocument) -> KeptContents:
    async def read(_document_id: str, content_hash: str) -> ParsedDocument | None:
        return contents.get(content_hash)

    return KeptContents(read)


def unit(content: ParsedDocument, words: str, content_hash: str = "old") -> QuotedUnit:
    start = content.text.index(words)
    return QuotedUnit(document_id="d", content_hash=content_hash, span=(start, start + len(words)))


async def fallen(before: str, now: str, cited: str, media_type: MediaType = "text/plain") -> list[str]:
    """Return the lines that fell."""
    old, new = parsed(before, media_type), parsed(now, media_type)
    found = await kept(old=old, new=new).fallen([unit(old, cited)], "new")
    return [old.text[slice(*each.span)] for each in found]


def test_a_written_answer_rests_on_the_units_that_its_shown_sentences_cite() -> None:
    cited = (CitedUnit(n=1, start=0, end=9), CitedUnit(n=7, start=0, end=9))
    shown = Sentence(index=0, start=0, end=5, citations=(1,), support=Support.SUPPORTED, cited=cited)
    other = CitedUnit(n=2, start=3, end=8)
    withheld = shown.model_copy(update={"detail": "withheld", "cited": (other,)})
    update = {
        "sentences": (shown, shown, withheld),
        "passages": (samples.use("wait"), samples.use("pay", n=2)),
    }
    units = units_of(samples.answer().model_copy(update=update))
    assert units == {"wait": [QuotedUnit(document_id="wait", content_hash="hash", span=(0, 9))]}


async def test_a_longer_line_is_another_one() -> None:
    before, now = "- The label is free\n- Print it", "- The label is free for members\n- Print it"
    assert await fallen(before, now, "The label is free", "text/markdown") == ["The label is free"]


async def test_a_row_of_a_table_is_a_line() -> None:
    before, now = TABLE.format(days=10), TABLE.format(days=20)
    old = parsed(before, "text/markdown")
    gold, silver = (row.text for row in old.units)
    assert await fallen(before, now, gold, "text/markdown") == [gold]
    assert await fallen(before, now, silver, "text/markdown") == []


async def test_nothing_stands_in_what_is_gone_or_of_what_is_not_stored() -> None:
    old = parsed("Two days.")
    cited = unit(old, "Two days.")
    assert await kept(old=old).fallen([cited], GONE) == (cited,)
    assert await kept(new=old).fallen([cited], "new") == (cited,)
    assert await kept().fallen([cited], "old") == ()


def test_the_line_in_place_of_one_is_the_most_alike_new_one_between_its_neighbours() -> None:
    old = ContentLines(parsed("Rule A holds.\n\nThe wait is two days.\n\nRule B holds."))
    start = old.parsed.text.index("The wait")
    new = (
        "Rule A holds.\n\nBring a card.\n\nThe wait is four days.\n\nRule B holds.\n\nThe wait is two hours."
    )
    assert ContentLines(parsed(new)).in_place_of(start, old) == "The wait is four days."
    assert ContentLines(parsed("Rule A holds.\n\nRule B holds.")).in_place_of(start, old) is None
    assert ContentLines(parsed("Zzz.")).in_place_of(start, old) is None
