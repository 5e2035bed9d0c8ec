"""Two tasks of the service on one store, and the death of one of them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.faults.conftest import (
    WRITTEN,
    ServiceProcess,
    Watch,
    asked,
    asking,
    called,
    came_back,
    ended,
    headers,
)
from tests.faults.table import DOWN_WHILE_STREAMING, EVENTS, RECORDS, THE_SERVICE, tell
from tests.stage.faulty_proxy import Kind
from tests.stage.running_service import eventually

WINDOW: dict[str, Any] = {"resume_window_s": 15}


async def test_after_a_kill_the_reader_is_told(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    async with watch.scene.service() as dying, asking(dying, **WINDOW) as stream:
        await stream.until("token")
        answer_id = stream.answered.answer_id
        await eventually(lambda: watch.scene.has_begun(answer_id))
        dying.kill()
        answer = await came_back(watch.service, answer_id)
    assert (len(answer.events), answer.told()) == (1, "`error` `interrupted`, retryable")
    assert "id:" not in answer.text
    recorded = await watch.recorded(stream.answered)
    verdict = {"verdict_id": "v-killed", "label": "bad"}
    marked = await called(watch.service, "POST", f"/v1/answers/{answer_id}/verdict", json=verdict)
    assert marked.status == 200
    assert watch.calls_of_the_model == 1
    tell(
        THE_SERVICE,
        "killed while streaming",
        made_by="kill -9 in the instant that its first sentence is read",
        sees=f"back on another task, when the answer's deadline is over: {answer.told()}",
        recorded=recorded,
    )


async def test_the_key_of_a_killed_answer_begins_anew_when_its_deadline_is_over(watch: Watch) -> None:
    watch.scene.sagemaker.hold_after(2)
    key = "killed-with-key"
    async with watch.scene.service() as dying, asking(dying, key=key) as stream:
        await stream.until("token")
        first = stream.answered
        await eventually(lambda: watch.scene.has_begun(first.answer_id))
        dying.kill()
        repeated = await asked(watch.service, key=key)
    assert repeated.told() == "503 `interrupted`, retryable"
    recorded = await watch.recorded(first)
    watch.scene.sagemaker.hold = None
    anew = await asked(watch.service, key=key)
    assert (anew.status, anew.written) == (200, WRITTEN)
    assert anew.answer_id != first.answer_id
    joined = await asked(watch.service, key=key)
    assert (joined.answer_id, joined.written) == (anew.answer_id, anew.written)
    tell(
        THE_SERVICE,
        "killed while streaming, then the same Idempotency-Key",
        made_by="kill -9 in the instant that its first sentence is read; the request is sent again",
        sees=f"after the answer's deadline: {repeated.told()}; the next time a new answer: {anew.told()}",
        recorded=f"{recorded}; the new one {await watch.recorded(anew)}",
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(ended("stop")),
    )


async def test_a_record_that_died_with_its_task_leaves_an_interrupted_answer(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with watch.scene.service() as dying, asking(dying, **WINDOW) as stream:
        begun = await stream.until("token")
        await eventually(lambda: watch.scene.has_begun(begun.answer_id))
        await watch.scene.break_(RECORDS, Kind.REFUSE)
        go_on.set()
        answer = await stream.until("done")
        dying.kill()
    assert answer.told() == "`done` `stop`, `recorded` false"
    await watch.scene.heal()

    async def is_recorded() -> bool:
        return await watch.recorded(answer) != "not yet"

    await eventually(is_recorded)
    tell(
        THE_SERVICE,
        "killed while its record waits, and no reader comes back",
        made_by="connections of the record store reset, kill -9 after `done`, connections work again",
        sees=answer.told(),
        recorded=f"{await watch.recorded(answer)}, when the answer's deadline is over",
    )


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
        tell(
            THE_SERVICE,
            "two tasks, one Idempotency-Key at the same instant",
            made_by="both requests sent at once, five times",
            sees=f"the same answer on both: {first.told()}",
            recorded=await watch.recorded(first),
            figure="`assistant_answers_total` on one of the two",
        )


async def test_claims_that_go_down_cost_a_running_answer_nothing(watch: Watch, other: ServiceProcess) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service, **WINDOW) as stream:
        await stream.until("token")
        await watch.scene.break_(EVENTS, Kind.REFUSE)
        log = await watch.logged("cancellations_not_read")
        go_on.set()
        answer = await stream.rest()
    elsewhere = await came_back(other, answer.answer_id)
    assert (answer.told(), answer.written) == ("`done` `stop`", WRITTEN)
    assert (elsewhere.told(), elsewhere.written) == (answer.told(), answer.written)
    assert watch.calls_of_the_model == 1
    tell(
        EVENTS,
        DOWN_WHILE_STREAMING,
        made_by="its connections reset",
        sees=f"{answer.told()}; coming back on another task: {elsewhere.told()}",
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
    tell(
        THE_SERVICE,
        "two tasks, the verdict on the other one",
        made_by="the same verdict three times, on both",
        sees="200; read back: one verdict",
        recorded="once",
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
    tell(
        THE_SERVICE,
        "two tasks, cancelled on the other one",
        made_by="DELETE on the task that does not write it",
        sees=f"204; the stream: {answer.told()}",
        recorded=await watch.recorded(answer),
        log=await watch.logged("answer_ended"),
        figure=await watch.counted(ended("cancelled")),
    )
