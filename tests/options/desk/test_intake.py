"""Which events open a case, and what it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import Case, CaseReason, CaseState, DeskKind, body_of_item, case_id
from assistant.domain.errors import EmbeddingUnavailableError, RecordsUnavailableError
from assistant.options.desk.cases import MOST_CASES, UPKEEP, CaseFilter, ReviewDesk, open_case, read_cases
from assistant.options.desk.events import Edit, FeedbackEvent, FeedbackKind
from assistant.options.desk.gaps import GapUpkeep, OpenQuestion, group, regrouped
from assistant.options.desk.intake import gap_id, refuse_above
from assistant.stores.desk import StoredDesk
from assistant.stores.sqlite_table import SqliteTable
from assistant.text.language import language
from tests.options.desk.desk import RITA, Desk, desk_of
from tests.options.desk.desk_scene import bad_verdict, fact_edit, feedback
from tests.stage.answering import FakeEmbedder

HARMLESS = Edit(distance=1, words=9)
OPENED = {
    "bad verdict": (bad_verdict("a1"), [CaseReason.BAD_VERDICT]),
    "good verdict": (feedback("a1", FeedbackKind.VERDICT, label=VerdictLabel.GOOD), []),
    "changed fact": (fact_edit("a1"), [CaseReason.FACT_EDITED]),
    "changed words": (feedback("a1", FeedbackKind.SENT, edit=HARMLESS), []),
    "unsupported text": (
        feedback("a1", FeedbackKind.SENT, edit=HARMLESS, unsupported_sent=True),
        [CaseReason.UNSUPPORTED_SENT],
    ),
    "both": (fact_edit("a1", unsupported_sent=True), [CaseReason.FACT_EDITED, CaseReason.UNSUPPORTED_SENT]),
    "no answer": (feedback("a1", FeedbackKind.UNANSWERED), [CaseReason.UNANSWERED]),
    "emergency": (feedback("a1", FeedbackKind.EMERGENCY), [CaseReason.EMERGENCY]),
    "documents that differ": (feedback("a1", FeedbackKind.DIFFERENT_VALUES), [CaseReason.DIFFERENT_VALUES]),
    "opened source": (feedback("a1", FeedbackKind.OPENED_SOURCE, opened="wait"), []),
    "other words": (feedback("a1", FeedbackKind.REFORMULATED), []),
}


@pytest.mark.parametrize(("event", "reasons"), OPENED.values(), ids=OPENED)
async def test_an_event_opens_the_cases_that_it_wants(
    tmp_path: Path, event: FeedbackEvent, reasons: list[CaseReason]
) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.took(event)
        items = await desk.services.store.list(DeskKind.CASE)
        assert {item.item_id for item in items} == {case_id("a1", reason) for reason in reasons}


async def test_a_case_keeps_what_the_event_says_and_no_text(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.took(bad_verdict("a1", "wait", "hall", reader_labels=("hr",)))
        case = await desk.case("a1", CaseReason.BAD_VERDICT)
        assert case is not None
        assert (case.documents, case.reader_labels, case.verdict_reasons) == (("wait",), ("hr",), ("wrong",))


SAME = {
    "the same question": ("how long is the  wait", {}, True),
    "another question": ("How long is the queue?", {}, False),
    "other readers": ("How long is the wait?", {"reader_labels": ("hr",)}, False),
}


@pytest.mark.parametrize(("question", "changed", "joins"), SAME.values(), ids=SAME)
async def test_a_case_of_the_same_question_joins_the_open_one(
    tmp_path: Path, question: str, changed: dict[str, Any], joins: bool
) -> None:
    async with desk_of(tmp_path) as desk:
        await desk.answered("a1", "How long is the wait?")
        await desk.answered("a2", question)
        await desk.took(bad_verdict("a1", "wait"), bad_verdict("a2", "wait", **changed))
        lines, _ = await desk.queue.page(CaseFilter(), identity=RITA)
        counts = {line.case_id: line.joined for line in lines}
        first, second = (case_id(name, CaseReason.BAD_VERDICT) for name in ("a1", "a2"))
        assert counts == ({first: 1} if joins else {first: 0, second: 0})


async def test_documents_that_differ_have_one_case_whatever_was_asked(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        for answer, question in (
            ("a1", "price of gabapentin"),
            ("a2", "gabapentin 300 cost?"),
            ("a3", "else?"),
        ):
            await desk.answered(answer, question)
        shown = {"a1": ("north", "south"), "a2": ("south", "north"), "a3": ("north", "west")}
        for answer, documents in shown.items():
            event = replace_kind(bad_verdict(answer, *documents))
            await desk.took(event)
        lines, _ = await desk.queue.page(CaseFilter(), identity=RITA)
        first, other = (case_id(answer, CaseReason.DIFFERENT_VALUES) for answer in ("a1", "a3"))
        assert {line.case_id: line.joined for line in lines} == {first: 1, other: 0}


def replace_kind(event: FeedbackEvent) -> FeedbackEvent:
    return event.model_copy(update={"kind": FeedbackKind.DIFFERENT_VALUES, "label": None, "reasons": ()})


async def test_an_agent_at_the_cap_opens_a_case_once_a_reviewer_closed_one(tmp_path: Path) -> None:
    async with desk_of(tmp_path, most_of_agent=1) as desk:
        for answer in ("a1", "a2", "a3"):
            await desk.answered(answer, f"How long is wait {answer}?")
        await desk.took(bad_verdict("a1", "wait"), fact_edit("a2", "wait"))
        assert await desk.case("a2", CaseReason.FACT_EDITED) is None
        first = await desk.queue.find(case_id("a1", CaseReason.BAD_VERDICT), identity=RITA)
        await desk.queue.put_case(first, {"state": CaseState.DISMISSED}, by="rita", note="")
        await desk.took(bad_verdict("a3", "wait"))
        assert await desk.case("a3", CaseReason.BAD_VERDICT) is not None


async def test_an_equal_question_joins_though_its_agent_is_at_the_cap(tmp_path: Path) -> None:
    async with desk_of(tmp_path, most_of_agent=1) as desk:
        for answer in ("a1", "a2"):
            await desk.answered(answer)
            await desk.took(bad_verdict(answer, "wait"))
        joined = await desk.case("a2", CaseReason.BAD_VERDICT)
        assert joined is not None
        assert joined.joined == case_id("a1", CaseReason.BAD_VERDICT)


async def test_a_bad_verdict_is_taken_while_the_desk_s_store_is_away(tmp_path: Path) -> None:
    file = tmp_path / "desk.sqlite"
    file.write_bytes(b"no database" * 1_000)
    table = SqliteTable(file)
    store, verdict = StoredDesk(table), Verdict(verdict_id="v", label=VerdictLabel.BAD)
    with pytest.raises(RecordsUnavailableError):
        await store.get(DeskKind.CASE, "a")
    await refuse_above(1, store=store, verdict=verdict, answer_id="a", agent="ann")
    await table.close()


async def test_newer_cases_of_another_state_hide_no_open_one(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        services = desk.services
        case = Case(answer_id="a", reason=CaseReason.FACT_EDITED, opened_at=desk.clock.now())
        await open_case(services.store, case, by="intake")
        desk.clock.step(1)
        update = {"state": CaseState.DISMISSED, "opened_at": desk.clock.now()}
        for number in range(MOST_CASES + 1):
            newer = case.model_copy(update={**update, "answer_id": f"a{number}"})
            await open_case(services.store, newer, by="intake")
        (line,), _ = await ReviewDesk(services).page(CaseFilter(state=CaseState.OPEN), identity=RITA)
        assert line.case_id == case_id("a", CaseReason.FACT_EDITED)


async def test_gaps_are_counted_with_examples_under_the_reader_s_own_labels(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        for name, labels in (("a1", ()), ("a2", ("hr",)), ("a3", ("board",))):
            await desk.answered(name, "Are you open?" if name == "a1" else "ARE YOU OPEN?")
            await desk.took(feedback(name, FeedbackKind.UNANSWERED, reader_labels=labels))
            desk.clock.step(60)
        (gap,) = await desk.queue.gaps(identity=RITA)
        assert (len(gap.case_ids), gap.examples) == (2, ("Are you open?", "ARE YOU OPEN?"))
        (gap,) = await desk.queue.gaps(identity=replace(RITA, labels=frozenset()))
        assert gap.examples == ("Are you open?",)


async def test_a_case_of_the_same_question_is_opened_once_the_first_is_dismissed(tmp_path: Path) -> None:
    async with desk_of(tmp_path) as desk:
        for answer in ("a1", "a2"):
            await desk.answered(answer, "How long is the wait?")
        await desk.took(bad_verdict("a1", "wait"))
        first = await desk.queue.find(case_id("a1", CaseReason.BAD_VERDICT), identity=RITA)
        await desk.queue.put_case(first, {"state": CaseState.DISMISSED}, by="rita", note="")
        await desk.took(bad_verdict("a2", "wait"))
        second = await desk.case("a2", CaseReason.BAD_VERDICT)
        assert second is not None
        assert second.joined is None


ENGLISH = language("en")
NORTH, EAST = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
NEAR_NORTH = (0.95, 0.3, 0.1)


def opened(
    name: str, gap: str, vector: tuple[float, ...] = NORTH, *, is_held: bool = False, question: str = ""
) -> OpenQuestion:
    return OpenQuestion(name, gap, question or f"Do you rent crutches {'x' * int(name)}?", vector, is_held)


def grouped(*questions: OpenQuestion) -> list[list[str]]:
    return [[one.case_id for one in members] for members in group(questions)]


def test_near_questions_are_one_group_and_others_are_not() -> None:
    assert grouped(opened("1", "a"), opened("2", "b", EAST), opened("3", "c", NEAR_NORTH)) == [
        ["1", "3"],
        ["2"],
    ]


@pytest.mark.parametrize(
    ("first", "second"), [("Is code 70 a refusal?", "Is code 75 one?"), ("Do we sell AB-12?", "And AB-13?")]
)
def test_questions_with_other_numbers_or_codes_are_two_groups_however_near(first: str, second: str) -> None:
    assert grouped(opened("1", "a", question=first), opened("2", "b", question=second)) == [["1"], ["2"]]


def test_questions_held_apart_stay_apart_however_near() -> None:
    questions = [
        opened("1", "gap-a", is_held=True),
        opened("2", "gap-b", is_held=True),
        opened("3", "gap-a", EAST, is_held=True),
    ]
    assert grouped(*questions) == [["1", "3"], ["2"]]


def test_a_group_keeps_the_gap_of_most_of_its_questions() -> None:
    questions = [opened("1", "gap-a"), opened("2", "gap-b"), opened("3", "gap-b")]
    assert regrouped(questions) == {"1": "gap-b"}


def test_a_group_keeps_the_gap_that_a_person_acted_on() -> None:
    questions = [opened("1", "gap-a", is_held=True), opened("2", "gap-b"), opened("3", "gap-b")]
    assert regrouped(questions) == {"2": "gap-a", "3": "gap-a"}


# --- over a desk -------------------------------------------------------------------------------------------
WORDS = {"a1": "rent crutches", "a2": "gluten capsules", "a3": "rent crutches please"}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with three open questions, all in the gap ``gap-first``."""
    async with desk_of(tmp_path) as opened_desk:
        services = opened_desk.services
        for answer, question in WORDS.items():
            await opened_desk.answered(answer, question)
            await opened_desk.took(feedback(answer, FeedbackKind.UNANSWERED))
            opened_desk.clock.step(1)
        async for item, case in read_cases(services.store, CaseState):
            grouped_before = case.model_copy(update={"gap": "gap-first"})
            await services.put_next(item, grouped_before, by=UPKEEP, note="")
        yield opened_desk


async def gaps_of(desk: Desk) -> list[str | None]:
    cases = [await desk.case(answer, CaseReason.UNANSWERED) for answer in WORDS]
    return [case.gap for case in cases if case is not None]


async def test_a_new_question_is_a_gap_whose_id_holds_no_word_of_it(desk: Desk) -> None:
    await desk.answered("a4", "Do you lend walkers?")
    await desk.took(feedback("a4", FeedbackKind.UNANSWERED))
    case = await desk.case("a4", CaseReason.UNANSWERED)
    assert case is not None
    assert case.gap == gap_id("do you lend WALKERS?")
    assert "walkers" not in str(case.gap)


async def act(desk: Desk, answer: str) -> None:
    """Have a reviewer take the case."""
    item = await desk.services.store.get(DeskKind.CASE, case_id(answer, CaseReason.UNANSWERED))
    assert item is not None
    body = body_of_item(item, Case).model_copy(update={"assigned_to": "rita"}).model_dump_json()
    update = {"revision": item.revision + 1, "by": "rita", "body": body}
    await desk.services.store.put(item.model_copy(update=update))


async def test_a_gap_that_a_reviewer_acted_on_stays_as_it_is(desk: Desk) -> None:
    await act(desk, "a1")
    assert await GapUpkeep(desk.services, ENGLISH)() == 0
    assert await gaps_of(desk) == ["gap-first"] * 3


async def test_nothing_is_grouped_while_the_model_is_down(desk: Desk) -> None:
    embedder = desk.services.embedder
    assert isinstance(embedder, FakeEmbedder)
    embedder.error = EmbeddingUnavailableError("down")
    upkeep = GapUpkeep(desk.services, ENGLISH)
    assert await upkeep() == 0
    embedder.error = None
    assert await upkeep() == 1
