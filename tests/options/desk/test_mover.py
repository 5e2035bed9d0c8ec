"""The mover takes rows to the feedback store whole, once, and in its own time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    Sent,
    StoredAct,
    StoredSent,
    Verdict,
    VerdictLabel,
)
from assistant.domain.desk import DeskKind
from assistant.domain.errors import ConflictError, DependencyError, RecordsUnavailableError
from assistant.options.desk import mover
from assistant.options.desk import patients_opened as patients
from assistant.options.desk.events import FeedbackKind
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.mover import OUTBOX
from assistant.options.desk.opened import open_movers
from assistant.options.desk.section import FeedbackSection
from assistant.options.desk.signals import ShownAnswer, Signal
from assistant.tenant.tenant import load_tenant
from tests.contracts import samples
from tests.options.desk.moving import QUOTE, Moving, answered, feedback_of, moving, unanswered
from tests.stage.knowledge import new_act
from tests.stage.tenant_files import settings_in
from tests.stage.tenant_stores import SteppedClock, TenantStores, tenant_stores

BAD = Verdict(verdict_id="v1", label=VerdictLabel.BAD, reasons=("wrong",), better_text="M-77 is fine.")
SENT = Sent(send_id="s1", text="M-77, take 10 mg twice a day.")


def files_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.json*")]


async def acted(scene: Moving) -> None:
    await scene.stores.records.put_answer(answered())
    await scene.stores.records.append_verdict("a1", BAD, agent="ana")
    await scene.stores.records.append_sent("a1", SENT, agent="ana")
    await scene.stores.records.put_answer(unanswered("a2"))


async def test_everything_pending_is_moved_and_the_desk_gets_it(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        assert await scene.move() == 3
        events = await scene.events()
        assert {event.kind for event in events} == {
            FeedbackKind.VERDICT,
            FeedbackKind.SENT,
            FeedbackKind.UNANSWERED,
        }
        assert [len(group) for group in scene.desk.groups] == [3]
        assert await scene.move() == 0


async def test_what_was_sent_is_compared_with_the_reply_that_it_was_edited_from(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await scene.stores.records.put_answer(answered())
        reply = answered("r1").model_copy(update={"reply_to": "a1", "text": "M-77, take 10 mg daily."})
        await scene.stores.records.put_answer(reply)
        sent = SENT.model_copy(update={"reply_id": "r1"})
        await scene.stores.records.append_sent("a1", sent, agent="ana")
        await scene.move()
        [event] = [event for event in await scene.events() if event.kind is FeedbackKind.SENT]
        assert event.edit is not None
        assert event.edit.distance == 3


async def test_words_are_sealed_with_patients_data_replaced(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        await scene.move()
        sent = next(event for event in await scene.events() if event.kind is FeedbackKind.SENT)
        texts = await scene.feedback.texts([sent.text_id or ""])
        (text,) = texts.values()
        assert text.subjects == ("document:refill", scene.signals.patient("M77"))
        (words,) = (await unseal_all([text], scene.stores.erasure_keys)).values()
        assert (words.shown, words.sent) == (QUOTE, "<MEMBER_NUMBER>, take 10 mg twice a day.")
        everything = b"".join(files_in(tmp_path / "feedback"))
        assert b"M-77" not in everything
        assert b"twice" not in everything


async def test_an_erased_patient_s_words_are_unreadable_and_others_stay(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        await scene.move()
        assert await scene.stores.erasure_keys.destroy(scene.signals.patient("m77"))
        ids = [event.text_id or "" for event in await scene.events()]
        texts = (await scene.feedback.texts(ids)).values()
        left = await unseal_all(texts, scene.stores.erasure_keys)
        assert [words.question for words in left.values()] == ["When is it open?"]


async def test_without_a_filter_of_patients_data_no_words_leave(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        scene.patients = None
        await acted(scene)
        await scene.move()
        assert {event.text_id for event in await scene.events()} == {None}
        assert files_in(tmp_path / "feedback" / "texts") == []


async def test_a_tenant_may_keep_words_to_itself(tmp_path: Path) -> None:
    async with moving(tmp_path, feedback=FeedbackSection(texts=False)) as scene:
        await acted(scene)
        await scene.move()
        assert {event.text_id for event in await scene.events()} == {None}


async def test_words_of_a_withdrawn_document_do_not_leave(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        await scene.stores.erasure_keys.destroy("document:refill")
        scene.texts.withdrawn = True
        await scene.move()
        assert len(files_in(tmp_path / "feedback" / "texts")) == 1
        # Beside the unanswered question nothing is left: the document's signals went with it.
        assert [event.kind for event in await scene.events()] == [FeedbackKind.UNANSWERED]


class Away(Exception):
    pass


@pytest.mark.parametrize("error", [RecordsUnavailableError("down"), DependencyError("down"), Away("down")])
async def test_nothing_is_lost_while_a_store_is_away(tmp_path: Path, error: Exception) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        scene.desk.error = error
        for _ in range(2):
            with pytest.raises(type(error)):
                await scene.move()
        assert len(await scene.stores.get(OUTBOX).pending()) == 3
        scene.desk.error = None
        await scene.move()
        assert len(await scene.events()) == 3
        assert await scene.stores.get(OUTBOX).pending() == []


async def test_a_row_of_an_unknown_answer_is_dropped_and_counted(tmp_path: Path) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        await scene.stores.records.append_act(
            "deleted", Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1), agent="ana"
        )
        with capture_logs() as lines:
            assert await scene.move() == 4
        assert len(await scene.events()) == 3
        assert {"event": "feedback_rows_dropped", "log_level": "warning", "rows": 1, "of": 4} in lines
        assert await scene.stores.get(OUTBOX).pending() == []


@pytest.mark.parametrize("part", ["signals", "patients"])
async def test_a_row_that_cannot_be_read_or_filtered_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        broken, name = getattr(scene, part), {"signals": "of", "patients": "replace"}[part]
        whole = getattr(broken, name)

        def fail_on_sent(given: object, *more: object) -> object:
            if type(given) is StoredSent or given == SENT.text:
                raise ValueError("M-77")
            return whole(given, *more)

        monkeypatch.setattr(broken, name, fail_on_sent)
        move = scene.move
        with capture_logs() as lines:
            assert [await move() for _ in range(5)] == [2, 0, 0, 0, 1]
        left = {event.kind for event in await scene.events()}
        assert left >= {FeedbackKind.UNANSWERED, FeedbackKind.VERDICT}
        assert FeedbackKind.SENT not in left
        assert "M-77" not in str(lines)
        assert await scene.stores.get(OUTBOX).pending() == []


async def opened_sources(scene: Moving, count: int) -> None:
    await scene.stores.records.put_answer(answered())
    for number in range(count):
        act = Act(act_id=f"o{number}", kind=AgentAct.OPENED_SOURCE, n=1)
        await scene.stores.records.append_act("a1", act, agent="ana")


def fail_on(acts: set[str], scene: Moving, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let acts fail while they are in the set; return the list of what is tried."""
    of, tried = scene.signals.of, list[str]()

    def failing(done: object, answer: ShownAnswer) -> list[Signal]:
        assert isinstance(done, StoredAct)
        tried.append(done.act.act_id)
        if done.act.act_id in acts:
            raise ValueError
        return of(done, answer)

    monkeypatch.setattr(scene.signals, "of", failing)
    return tried


async def test_rows_behind_one_that_fails_are_moved_in_the_same_turn_and_it_is_tried_once_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "GROUP_ROWS", 3)
    async with moving(tmp_path) as scene:
        await opened_sources(scene, 8)
        move, failing, clock = scene.move, {"o0", "o4"}, SteppedClock()
        tried = fail_on(failing, scene, monkeypatch)
        assert await move.drain(clock=clock, within_s=1.0) == 6
        assert sorted(tried) == [f"o{number}" for number in range(8)]
        failing.remove("o4")
        assert [await move.drain(clock=clock, within_s=1.0) for _ in range(5)] == [1, 0, 0, 1, 0]
        assert (tried.count("o0"), tried.count("o4")) == (5, 2)
        assert len(await scene.events()) == 7


async def test_a_turn_ends_where_a_whole_group_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover, "GROUP_ROWS", 2)
    async with moving(tmp_path) as scene:
        await opened_sources(scene, 6)
        move, clock = scene.move, SteppedClock()
        tried = fail_on({"o0", "o1", "o2"}, scene, monkeypatch)
        assert await move.drain(clock=clock, within_s=1.0) == 0
        assert sorted(tried) == ["o0", "o1"]
        assert [await move.drain(clock=clock, within_s=1.0) for _ in range(4)] == [0, 0, 0, 5]
        assert [await move.drain(clock=clock, within_s=1.0) for _ in range(4)] == [0, 0, 0, 1]
        assert len(await scene.events()) == 3


GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1)


async def test_what_an_agent_does_is_pending_in_the_order_in_which_it_was_stored(
    stores: TenantStores,
) -> None:
    stored = [
        await stores.records.append_verdict("a1", GOOD, agent="ana"),
        await stores.records.append_sent("a2", SENT, agent="ana"),
        await stores.records.append_act("a1", OPENED, agent="ben"),
    ]
    rows = await stores.outbox.pending()
    assert [row.stored for row in rows] == stored
    assert [row.kind for row in rows] == ["verdict", "sent", "act"]
    assert [row.answer_id for row in rows] == ["a1", "a2", "a1"]


@pytest.mark.parametrize(
    ("record", "is_pending"),
    [
        (samples.answer(), False),
        (unanswered(), True),
        (samples.answer().model_copy(update={"follows": "a0"}), False),
    ],
)
async def test_an_answer_is_pending_when_it_is_a_signal(
    stores: TenantStores, record: AnswerRecord, is_pending: bool
) -> None:
    await stores.records.put_answer(record)
    rows = await stores.outbox.pending()
    assert [(row.kind, row.answer_id, row.stored) for row in rows] == [("answer", "a1", None)] * is_pending


async def test_a_confirmed_row_is_pending_no_more(stores: TenantStores) -> None:
    await stores.records.append_verdict("a1", GOOD, agent="ana")
    await stores.records.put_answer(unanswered())
    first, second = await stores.outbox.pending()
    await stores.outbox.confirm([first])
    assert await stores.outbox.pending() == [second]
    await stores.outbox.confirm([first, second])
    assert await stores.outbox.pending() == []
    await stores.records.append_verdict("a1", GOOD, agent="ana")  # again, after it was moved
    assert await stores.outbox.pending() == []


async def test_a_confirmed_row_stays_in_the_records(stores: TenantStores) -> None:
    stored = await stores.records.append_verdict("a1", GOOD, agent="ana")
    await stores.records.put_answer(unanswered())
    waiting = await stores.records.append_verdict(
        "a1", GOOD.model_copy(update={"verdict_id": "v2"}), agent="ana"
    )
    await stores.outbox.confirm((await stores.outbox.pending())[:2])
    assert await stores.records.list_verdicts() == [stored, waiting]
    assert await stores.records.get_answer("a1") == unanswered()


async def test_a_refused_act_is_not_pending(stores: TenantStores) -> None:
    await stores.records.append_act("a1", OPENED, agent="ana")
    with pytest.raises(ConflictError):
        await stores.records.append_act("a1", OPENED.model_copy(update={"n": 2}), agent="ana")
    assert len(await stores.outbox.pending()) == 1


async def test_an_act_that_the_release_before_does_not_know_is_pending_whole(stores: TenantStores) -> None:
    stored = await stores.records.append_act("a1", new_act().act, agent="ana")
    (row,) = await stores.outbox.pending()
    assert row.stored == stored


async def test_a_verdict_is_moved_sealed_and_on_the_desk(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    tenant = load_tenant(tmp_path / "tenants" / "clinic.toml")
    stores = tenant_stores(tenant, state_dir=settings.state_dir)
    await stores.records.put_answer(samples.answer())
    stored = await stores.records.append_verdict("a1", BAD, agent="ana")
    async with open_movers(settings) as movers:
        assert [await move() for move in movers] == [1]
    read = feedback_of(stores).read(stored.at, stored.at + timedelta(seconds=1))
    (event,) = [each async for each in read]
    assert (event.tenant, event.label, event.text_id is None) == ("clinic", "bad", False)
    assert len(await stores.desk.list(DeskKind.CASE)) == 1
    await stores.close()


async def test_a_damaged_desk_of_one_tenant_leaves_the_mover_of_the_other(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    file = settings.tenants_dir / "clinic.toml"
    (settings.tenants_dir / "shop.toml").write_text(file.read_text().replace("clinic", "shop"))
    desk = settings.state_dir / "tenants" / "clinic" / "desk.sqlite"
    desk.parent.mkdir(parents=True)
    desk.write_bytes(bytes(range(1, 256)) * 16)
    with capture_logs() as lines:
        async with open_movers(settings) as movers:
            assert len(movers) == 1
    assert [line["tenant"] for line in lines if line["event"] == "tenant_not_served"] == ["clinic"]


def test_without_the_engine_of_patients_data_no_words_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "find_spec", lambda _name: None)
    with capture_logs() as lines:
        assert patients.patients_filter() is None
    assert [line["event"] for line in lines] == ["feedback_without_words"]


async def test_no_mover_is_opened_where_a_function_moves(tmp_path: Path) -> None:
    names = ("documents_bucket", "states_table", "desk_table", "ingestion_queue_url", "withdrawals_queue_url")
    settings = settings_in(tmp_path, stores="aws", **dict.fromkeys(names, "name"))
    async with open_movers(settings) as movers:
        assert list(movers) == []
