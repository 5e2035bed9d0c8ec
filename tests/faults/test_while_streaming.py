"""What an answer in progress does not need any more may go down without its agent noticing."""

from __future__ import annotations

import asyncio

from tests.fakes.faulty_proxy import Kind
from tests.faults.asking import asking, called
from tests.faults.cells import DOWN_WHILE_STREAMING
from tests.faults.dependencies import DOCUMENTS, EMBEDDING, KEYS, LINK_SECRET, POWER, QUEUE, SEARCH, STATES
from tests.faults.scene import WRITTEN
from tests.faults.watching import Watch, ended, tell_of

BYSTANDERS = (EMBEDDING, SEARCH, STATES, DOCUMENTS, QUEUE, KEYS, POWER, LINK_SECRET)


async def test_an_answer_in_progress_needs_its_model_and_nothing_else(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        for dependency in BYSTANDERS:
            await watch.scene.break_(dependency, Kind.REFUSE)
        reading = asyncio.create_task(called(watch.service, "GET", "/v1/documents/wait"))
        go_on.set()
        answer = await stream.rest()
    read = await reading
    assert (answer.told(), answer.written) == ("`done` `stop`", WRITTEN)
    assert read.told() == "503 `dependency_unavailable`, retryable"
    recorded, figure = await watch.recorded(answer), await watch.counted(ended("stop"))
    assert watch.calls_of_the_model == 1
    for dependency in BYSTANDERS:
        is_shared = dependency.mark is not None
        tell_of(
            dependency,
            DOWN_WHILE_STREAMING,
            made_by="its connections reset" if is_shared else "nobody listens, connections reset",
            sees=answer.told() + (f"; reading a document: {read.told()}" if dependency is DOCUMENTS else ""),
            recorded=recorded,
            figure=figure,
        )
