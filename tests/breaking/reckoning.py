"""What must hold when the kills are over: nothing lost, doubled, public or failed by them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx

from assistant.domain.clock import Deadline, SystemClock
from tests.breaking.agents import Agents, AskedQuestion
from tests.breaking.owners import Knowledge, KnownDocument
from tests.breaking.site import LABEL, Site, headers
from tests.fakes.running_service import DIGEST
from tests.fakes.sagemaker_socket import DIMENSIONS
from tests.fakes.stored_items import stored_bodies
from tests.fakes.tenant_stores import TenantStores

GONE = "[withdrawn]"
_FINAL = (None, "withdrawn")
"""What may end a question: an answer, or word that its source is gone."""
_RECORDED_WITHIN_S = 60.0
_DRAINED_WITHIN_S = 200.0
_AGAIN_S = 0.1
_AT_ONCE = 16
"""Records that are read back together."""


async def faults_of_documents(site: Site, knowledge: Knowledge) -> list[str]:
    """Wait until nothing is in the queues, then return what is not as it was accepted last."""
    faults = [f"an owner saw: {fault}" for fault in knowledge.faults]
    until_s = time.monotonic() + _DRAINED_WITHIN_S
    for document in knowledge.documents.values():
        state = await _settled(knowledge, document, until_s=until_s)
        wanted = "withdrawn" if document.withdrawn else "live"
        if state != wanted:
            faults.append(f"{document.document_id}: accepted as {wanted}, now {state}")
        else:
            faults += await _faults_of_text(knowledge, document)
    return faults + await _faults_of_index(site, knowledge)


async def _settled(knowledge: Knowledge, document: KnownDocument, *, until_s: float) -> str:
    """Return the document's state, once it is none on the way."""
    while True:
        status = await knowledge.status(document.document_id)
        if status is None:
            state = "unknown"
        else:
            state = str(status["state"])
            if state == "withdrawn" and status["live_content_hash"] is None:
                return state
            if state in ("live", "failed", "stale"):
                return f"{state} ({status['failure_reason']})" if status["failure_code"] else state
        if time.monotonic() > until_s:
            return f"still {state}"
        await asyncio.sleep(_AGAIN_S)


async def _faults_of_text(knowledge: Knowledge, document: KnownDocument) -> list[str]:
    path = f"/v1/documents/{document.document_id}"
    reader = headers("olga", labels=(LABEL,))
    response = await knowledge.client.get(path, headers=reader)
    if document.withdrawn:
        return [] if response.status_code == 404 else [f"{document.document_id}: withdrawn, and still read"]
    if document.marker not in response.text:
        return [f"{document.document_id}: its newest text {document.marker} is not what is read"]
    if document.labels and (await knowledge.client.get(path, headers=headers("pat"))).status_code != 404:
        return [f"{document.document_id}: read without its label"]
    return []


async def _faults_of_index(site: Site, knowledge: Knowledge) -> list[str]:
    """Hold the index against the documents: each that is live once, with its newest text and labels."""
    stores = TenantStores(
        site.tenant_folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST
    )
    faults: list[str] = []
    names = list(knowledge.documents)
    passages = documents = 0
    try:
        for start in range(0, len(names), 20):
            chunk = names[start : start + 20]
            deadline = Deadline.after(30.0, clock=SystemClock())
            found = await stores.search.read_documents(chunk, labels=frozenset((LABEL,)), deadline=deadline)
            public = await stores.search.read_documents(chunk, labels=frozenset(), deadline=deadline)
            for name in chunk:
                document = knowledge.documents[name]
                if document.withdrawn:
                    if name in found:
                        faults.append(f"{name}: withdrawn, and still in the index")
                    continue
                if name not in found:
                    faults.append(f"{name}: live, and not in the index")
                    continue
                ordinals = [passage.ordinal for passage in found[name].passages]
                documents, passages = documents + 1, passages + len(ordinals)
                if ordinals != list(range(len(ordinals))):
                    faults.append(f"{name}: has the passages {ordinals} in the index")
                if document.marker not in found[name].passages[0].text:
                    faults.append(f"{name}: the index does not have its newest text {document.marker}")
                if (name in public) == bool(document.labels):
                    faults.append(f"{name}: its labels are {document.labels}, the index says otherwise")
        info = await stores.search.info()
    finally:
        await stores.close()
    if (info.document_count, info.passage_count) != (documents, passages):
        faults.append(
            f"the index has {info.document_count} documents and {info.passage_count} passages,"
            f" of live documents {documents} and {passages}"
        )
    return faults


async def faults_of_answers(site: Site, agents: Agents) -> list[str]:
    """Return what agents were shown and the records do not have, or have twice."""
    await agents.come_back_at_last()
    file = site.tenant_folder / "records.sqlite"
    records = stored_bodies(file, partition="answer#*", sort="answer")
    ended = {record["answer_id"] for record in records}
    begun = stored_bodies(file, partition="answer#*", sort="interrupted")
    rows = records + [record for record in begun if record["answer_id"] not in ended]
    twice = [name for name, count in Counter(row["answer_id"] for row in rows).items() if count > 1]
    faults = [f"the record {answer_id} is there twice" for answer_id in twice]
    whole = Counter(row["question"] for row in rows if row["outcome"] == "done")
    for asked in agents.asked:
        if whole[asked.question] > 1:
            faults.append(f"{asked.key}: {whole[asked.question]} whole answers")
        if asked.refused not in _FINAL:
            faults.append(f"{asked.key}: refused with {asked.refused} ({asked.tries} tries)")
    shown = [(asked, answer_id) for asked in agents.asked for answer_id in asked.shown]
    for start in range(0, len(shown), _AT_ONCE):
        some = shown[start : start + _AT_ONCE]
        judged = await asyncio.gather(*(_faults_of_answer(agents, *one) for one in some))
        faults += [fault for found in judged for fault in found]
    return faults


async def _faults_of_answer(agents: Agents, asked: AskedQuestion, answer_id: str) -> list[str]:
    shown = asked.text_of(answer_id).strip()
    how = asked.ended.get(answer_id, "cut off")
    response = await record_of(agents, asked, answer_id)
    if response.status_code != 200:
        return [f"{asked.key}: {how} after {len(shown)} characters, its record is {response.status_code}"]
    record = response.json()["record"]
    text = str(record["text"]).strip()
    if how == "done":
        is_whole = record["outcome"] == "done" and _agree(text, shown) and len(text) == len(shown)
        return [] if is_whole else [f"{asked.key}: shown {shown!r}, recorded {record['outcome']} {text!r}"]
    return [] if _agree(text, shown) else [f"{asked.key}: shown {shown!r}, recorded {text!r}"]


async def record_of(agents: Agents, asked: AskedQuestion, answer_id: str) -> httpx.Response:
    """Return the answer's record; that of an interrupted answer counts when its deadline is over."""
    until_s = time.monotonic() + _RECORDED_WITHIN_S
    while True:
        reader = headers(asked.agent, labels=(LABEL,))
        response = await agents.client.get(f"/v1/answers/{answer_id}", headers=reader)
        if response.status_code == 200 or time.monotonic() > until_s:
            return response
        await asyncio.sleep(_AGAIN_S)


def _agree(first: str, second: str) -> bool:
    """Say whether one text begins the other. A notice may stand where a document was withdrawn or changed."""
    return GONE in first or first.startswith(second) or second.startswith(first)
