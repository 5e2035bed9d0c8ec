"""Two tasks of the service on one store, and the death of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.faulty_proxy import Kind
from tests.fakes.running_service import eventually
from tests.faults.asking import Answered, asked, asking, called, came_back, headers
from tests.faults.cells import (
    DOWN_WHILE_STREAMING,
    KILLED,
    KILLED_AFTER_RECORD,
    KILLED_WAITING,
    KILLED_WITH_KEY,
    OTHER_TASK_CANCEL,
    OTHER_TASK_VERDICT,
    SAME_KEY,
    THE_SERVICE,
    Cell,
)
from tests.faults.dependencies import EVENTS, RECORDS
from tests.faults.scene import WRITTEN, ServiceProcess
from tests.faults.table import Row, tell
from tests.faults.watching import Watch, ended, tell_of

WINDOW: dict[str, Any] = {"resume_window_s": 15}


def _up_to_text(answer: Answered) -> list[tuple[str, Any]]:
    """Return the events to the first text: its sentence, which may have come with it, waits for its batch."""
    texts = [index for index, (name, _) in enumerate(answer.events) if name == "token"]
    return answer.events[: texts[0] + 1]


async def tell_of_service(
    fault: str, *, made_by: str, sees: str, recorded: str, log: str, figure: str
) -> None:
    cell = Cell(THE_SERVICE, fault)
    tell(Row(cell.dependency, cell.fault, made_by, sees, recorded, log, figure))


async def test_after_a_kill_the_reader_gets_what_was_kept_and_is_told(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    async with watch.scene.service() as dying, asking(dying, **WINDOW) as stream:
        seen = _up_to_text(await stream.until("token"))
        answer_id = stream.answered.answer_id
        dying.kill()
        answer = await came_back(watch.service, answer_id)
    assert answer.events[:-1] == seen
    assert answer.told() == "`error` `interrupted`, retryable"
    assert "\nevent: error" not in answer.text.replace("\n\nevent: error", "")  # it has no id
    recorded = await watch.recorded(answer)
    verdict = {"verdict_id": "v-killed", "label": "bad"}
    marked = await called(watch.service, "POST", f"/v1/answers/{answer_id}/verdict", json=verdict)
    assert marked.status == 200
    assert watch.calls_of_the_model == 1
    await tell_of_service(
        KILLED,
        made_by="kill -9 in the instant that its first sentence is read",
        sees=f"back on another task: its text as it was seen, then {answer.told()}",
        recorded=recorded,
        log=await watch.logged("answer_interrupted"),
        figure="none",
    )


async def test_the_key_of_a_killed_answer_is_free_once_its_task_is_known_to_be_gone(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    key = "killed-with-key"
    async with watch.scene.service() as dying, asking(dying, key=key) as stream:
        await stream.until("token")
        first = stream.answered
        dying.kill()
        repeated = await asked(watch.service, key=key)
    assert (repeated.answer_id, repeated.told()) == (first.answer_id, "`error` `interrupted`, retryable")
    assert repeated.events[:-1] == _up_to_text(first)
    recorded = await watch.recorded(first)
    watch.scene.sagemaker.hold = None
    anew = await asked(watch.service, key=key)
    assert (anew.status, anew.written) == (200, WRITTEN)
    assert anew.answer_id != first.answer_id
    joined = await asked(watch.service, key=key)
    assert joined.frames == anew.frames
    await tell_of_service(
        KILLED_WITH_KEY,
        made_by="kill -9 in the instant that its first sentence is read; the request is sent again",
        sees=f"its text as it was seen, then {repeated.told()}; the next time a new answer: {anew.told()}",
        recorded=f"{recorded}; the new one {await watch.recorded(anew)}",
        log=await watch.logged("answer_interrupted"),
        figure=await watch.counted(ended("stop")),
    )


async def test_a_whole_answer_stands_when_only_the_end_of_its_events_is_lost(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    key = "killed-after-record"
    async with watch.scene.service() as dying, asking(dying, key=key) as stream:
        await stream.until("token")
        await watch.scene.break_(EVENTS, Kind.REFUSE)
        go_on.set()
        first = await stream.until("done")
        dying.kill()
    await watch.scene.heal(EVENTS)
    answer = await came_back(watch.service, first.answer_id)
    assert answer.events[:-1] == _up_to_text(first)
    repeated = await asked(watch.service, key=key)
    assert (repeated.answer_id, repeated.told()) == (first.answer_id, answer.told())
    kept = await called(watch.service, "GET", f"/v1/answers/{first.answer_id}")
    assert kept.body["record"]["text"] == WRITTEN
    assert watch.calls_of_the_model == 1
    await tell_of_service(
        KILLED_AFTER_RECORD,
        made_by="connections of the event log reset, kill -9 after `done`; the request is sent again",
        sees=f"what was logged, then {answer.told()}, by the key too; `GET /v1/answers/{{id}}`: all of it",
        recorded=await watch.recorded(first),
        log=await watch.logged("answer_interrupted"),
        figure="none",
    )


async def test_a_record_that_died_with_its_task_is_made_from_the_log_by_another(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with watch.scene.service() as dying, asking(dying, **WINDOW) as stream:
        await stream.until("token")
        await watch.scene.break_(RECORDS, Kind.REFUSE)
        go_on.set()
        answer = await stream.until("done")
        dying.kill()
    assert answer.told() == "`done` `stop`, `recorded` false"
    await watch.scene.heal()

    async def is_recorded() -> bool:
        return await watch.recorded(answer) == "`done` `stop`"

    await eventually(is_recorded)
    kept = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert kept.body["record"]["text"] == WRITTEN
    await tell_of_service(
        KILLED_WAITING,
        made_by="connections of the record store reset, kill -9 after `done`, connections work again",
        sees=answer.told(),
        recorded=f"{await watch.recorded(answer)}, by another task within half a minute",
        log=await watch.logged("left_answer_recorded"),
        figure="none",
    )


async def test_a_caller_who_never_waits_for_the_lease_frees_the_key_too(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    key = "killed-hasty"
    async with watch.scene.service() as dying, asking(dying, key=key) as stream:
        await stream.until("token")
        first = stream.answered
        dying.kill()
        async with asking(watch.service, key=key) as hasty:
            await hasty.until("token")
    watch.scene.sagemaker.hold = None
    await watch.logged("answer_interrupted")

    async def is_anew() -> bool:
        async with asking(watch.service, key=key) as again:
            seen = await again.until("started")
            return seen.answer_id != first.answer_id

    await eventually(is_anew)


async def test_one_key_on_two_tasks_at_the_same_instant_is_one_answer(
    watch: Watch, other: ServiceProcess
) -> None:
    for number in range(1, 6):
        key = f"same-{number}"
        first, second = await asyncio.gather(asked(watch.service, key=key), asked(other, key=key))
        assert watch.calls_of_the_model == len(await watch.new_records()) == number
        assert first.told() == second.told() == "`done` `stop`"
        assert first.answer_id == second.answer_id
        assert first.written == second.written == WRITTEN
        await tell_of_service(
            SAME_KEY,
            made_by="both requests sent at once, five times",
            sees=f"the same answer on both: {first.told()}",
            recorded=await watch.recorded(first),
            log="none",
            figure="`assistant_answers_total` on one of the two",
        )


async def test_an_event_log_that_goes_down_costs_the_agent_nothing(
    watch: Watch, other: ServiceProcess
) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service, **WINDOW) as stream:
        await stream.until("token")
        await watch.scene.break_(EVENTS, Kind.REFUSE)
        go_on.set()
        answer = await stream.rest()
    elsewhere = await came_back(other, answer.answer_id)
    log = await watch.logged("events_not_logged")
    assert (answer.told(), answer.written) == ("`done` `stop`", WRITTEN)
    assert elsewhere.told() == "503 `records_unavailable`, retryable"
    await watch.scene.heal()
    later = await came_back(other, answer.answer_id)
    assert later.frames == answer.frames
    assert watch.calls_of_the_model == 1
    tell_of(
        EVENTS,
        DOWN_WHILE_STREAMING,
        made_by="its connections reset",
        sees=f"{answer.told()}; coming back on another task: {elsewhere.told()}, "
        "and every event once the log is back",
        recorded=await watch.recorded(answer),
        log=log,
        figure=await watch.counted(ended("stop")),
    )


async def test_a_verdict_may_be_given_on_any_task(watch: Watch, other: ServiceProcess) -> None:
    answer = await asked(watch.service)
    path = f"/v1/answers/{answer.answer_id}"
    verdict = {"verdict_id": f"v-{answer.answer_id}", "label": "good"}
    for task in (other, watch.service, other):
        assert (await called(task, "POST", f"{path}/verdict", json=verdict)).status == 200
    read = await called(watch.service, "GET", path)
    assert [each["verdict"]["label"] for each in read.body["verdicts"]] == ["good"]
    await tell_of_service(
        OTHER_TASK_VERDICT,
        made_by="the same verdict three times, on both",
        sees="200; read back: one verdict",
        recorded="once",
        log="none",
        figure="none",
    )


async def test_an_answer_is_cancelled_from_any_task(watch: Watch, other: ServiceProcess) -> None:
    watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service, **WINDOW) as stream:
        await stream.until("token")
        path = f"/v1/answers/{stream.answered.answer_id}"
        strange = await other.client.delete(path, headers=headers("bob"))
        assert strange.status_code == 404
        assert (await called(other, "DELETE", path)).status == 204
        answer = await stream.rest()
    assert answer.told() == "`error` `cancelled`, not retryable"
    await tell_of_service(
        OTHER_TASK_CANCEL,
        made_by="DELETE on the task that does not write it",
        sees=f"204; the stream: {answer.told()}",
        recorded=await watch.recorded(answer),
        log=await watch.logged("answer_ended"),
        figure=await watch.counted(ended("cancelled")),
    )
