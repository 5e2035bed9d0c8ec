"""Another process on the same tenant: ``python -m tests.contracts.other_process TWIN PLACE ACTION``.

It prints ``ready`` when it begins and one JSON value when it is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.documents import DocumentState
from tests.contracts import samples
from tests.contracts.twins import TWINS, Twin


async def put_document(twin: Twin) -> object:
    await twin.documents.put(samples.document(content="Written elsewhere."))
    return None


async def mark_live(twin: Twin) -> object:
    return sorted(await twin.states.advance_many([samples.status(state=DocumentState.LIVE)]))


async def send_one(twin: Twin) -> object:
    await twin.queue.send_many(["from-elsewhere"])
    return None


async def drain_queue(twin: Twin) -> object:
    taken: list[str] = []
    while messages := await twin.queue.receive(limit=3, wait_s=0.0, visibility_timeout_s=60.0):
        taken += [message.document_id for message in messages]
        await twin.queue.delete_many([message.receipt for message in messages])
    return taken


async def append_verdict(twin: Twin) -> object:
    verdict = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
    stored = await twin.records.append_verdict("a1", verdict, agent="ana")
    return stored.model_dump(mode="json")


async def read_and_die(twin: Twin) -> object:
    """Record reads one after the other, and end without any goodbye while more are under way."""
    for minute in range(3):
        await twin.records.record_access(samples.read(f"elsewhere {minute}", minute=minute))
    sys.stdout.write("null\n")
    sys.stdout.flush()
    asyncio.get_running_loop().call_later(0.01, os._exit, 0)
    await asyncio.gather(
        *(twin.records.record_access(samples.read("dying", minute=minute)) for minute in range(200))
    )
    raise AssertionError("It lived on.")


async def claim_and_cancel(twin: Twin) -> object:
    await twin.claims.cancel("here")
    return (await twin.claims.claim(samples.claim("there"))).answer_id


async def index_document(twin: Twin) -> object:
    entry = samples.passage("elsewhere", text="Written by another process.")
    await twin.index.replace_documents(samples.documents_of((entry, samples.EAST)))
    return None


async def search(twin: Twin) -> object:
    found = await twin.search.search(samples.query(), deadline=samples.soon())
    return [ranked.passage.passage_id for ranked in found.passages]


async def pause_endpoints(twin: Twin) -> object:
    await twin.set_power("paused")
    return None


ACTIONS = {
    action.__name__: action
    for action in (
        put_document,
        mark_live,
        send_one,
        drain_queue,
        pause_endpoints,
        append_verdict,
        read_and_die,
        claim_and_cancel,
        index_document,
        search,
    )
}


async def main(twin_name: str, place: str, action: str) -> None:
    async with TWINS[twin_name](Path(place)) as twin:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(await ACTIONS[action](twin)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
