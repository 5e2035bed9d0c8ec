"""The mover takes rows to the feedback store whole, once, and in its own time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.domain.answers import Act, AgentAct, Sent, StoredAct, StoredSent, Verdict, VerdictLabel
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.options.desk import mover
from assistant.options.desk.events import FeedbackKind, ReplacedText
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.mover import OUTBOX
from assistant.options.desk.section import FeedbackSection
from assistant.options.desk.signals import ShownAnswer, Signal
from tests.fakes.clock import SteppedClock
from tests.options.desk.moving import QUOTE, Moving, answered, moving, unanswered

BAD = Verdict(verdict_id="v1", label=VerdictLabel.BAD, reasons=("wrong",), better_text="M-77 is fine.")
SENT = Sent(send_id="s1", text="M-77, take 10 mg twice a day.")


def files_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.json*")]


async def drained(scene: Moving, *, left: int = 0) -> None:
    """Return when no more than ``left`` rows are pending."""
    for _ in range(1_000):
        if len(await scene.stores.get(OUTBOX).pending()) <= left:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("rows are still pending")


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


async def test_a_row_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        of = scene.signals.of

        def fail_on_sent(done: object, *given: object, **named: object) -> object:
            if type(done) is StoredSent:
                raise ValueError("M-77")
            return of(done, *given, **named)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(scene.signals, "of", fail_on_sent)
        move = scene.move
        with capture_logs() as lines:
            assert [await move() for _ in range(5)] == [2, 0, 0, 0, 1]
        assert [event.kind for event in await scene.events()] == [
            FeedbackKind.UNANSWERED,
            FeedbackKind.VERDICT,
        ]
        assert "M-77" not in str(lines)
        assert await scene.stores.get(OUTBOX).pending() == []


async def test_a_row_whose_words_cannot_be_filtered_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with moving(tmp_path) as scene:
        await acted(scene)
        assert scene.patients is not None
        filtered = scene.patients.replace

        def fail_on_sent(text: str) -> ReplacedText:
            if text == SENT.text:
                raise ValueError("M-77")
            return filtered(text)

        monkeypatch.setattr(scene.patients, "replace", fail_on_sent)
        move = scene.move
        with capture_logs() as lines:
            assert [await move() for _ in range(5)] == [2, 0, 0, 0, 1]
        assert FeedbackKind.SENT not in {event.kind for event in await scene.events()}
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


async def test_the_mover_pauses_only_where_nothing_but_failing_rows_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "GROUP_ROWS", 3)
    async with moving(tmp_path) as scene:
        await opened_sources(scene, 8)
        tried = fail_on({"o0"}, scene, monkeypatch)
        stopping = asyncio.Event()
        running = asyncio.create_task(scene.move.run(stopping, every_s=3600.0))
        await drained(scene, left=1)
        stopping.set()
        await running
        assert sorted(tried) == [f"o{number}" for number in range(8)]


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
