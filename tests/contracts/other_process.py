"""Another process on the same tenant: ``python -m tests.contracts.other_process TWIN PLACE ACTION``.

It prints ``ready`` when it begins and one JSON value when it is done.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from assistant.stores.table import keyed
from tests.contracts import samples
from tests.contracts.twins import TWINS, Twin


async def insert_item(twin: Twin) -> object:
    return await twin.table.insert(keyed(("p", "a"), by="elsewhere"))


async def put_blob(twin: Twin) -> object:
    await twin.blobs.put("a/b.json", b"Written elsewhere.")
    return None


async def send_one(twin: Twin) -> object:
    await twin.queue.send_many(["from-elsewhere"])
    return None


async def drain_queue(twin: Twin) -> object:
    taken: list[str] = []
    while messages := await twin.queue.receive(limit=3, wait_s=0.0, visibility_timeout_s=60.0):
        taken += [message.document_id for message in messages]
        await twin.queue.delete_many([message.receipt for message in messages])
    return taken


async def index_document(twin: Twin) -> object:
    entry = samples.passage("elsewhere", text="Written by another process.")
    await twin.index.replace_documents(samples.documents_of((entry, samples.EAST)))
    return None


async def search(twin: Twin) -> object:
    found = await twin.search.search(samples.query(), deadline=samples.soon())
    return [ranked.passage.passage_id for ranked in found.passages]


ACTIONS = {
    action.__name__: action
    for action in (insert_item, put_blob, send_one, drain_queue, index_document, search)
}


async def main(twin_name: str, place: str, action: str) -> None:
    async with TWINS[twin_name](Path(place)) as twin:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(await ACTIONS[action](twin)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
