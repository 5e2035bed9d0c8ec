"""kill -9 of recall's sweep at seeded points: each affected reply is listed once, and none other.

500 replies, 40 changes and 20 kills by a new seed in ``check-recall``; a few here.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from assistant.documents.parsing import parse_document
from assistant.domain.answers import APPROVED_PREFIX, QuotedUnit, Sent
from assistant.domain.desk import DeskItem, DeskKind, ItemState
from assistant.domain.documents import Document, DocumentState
from assistant.options.desk.approved import approved_hash
from assistant.options.desk.recalls import RECALLS, SENDS, StoredRecalls
from assistant.options.desk.sweep import RecallSweep
from tests.contracts import samples
from tests.options.desk.desk import AT, approved
from tests.stage import processes
from tests.stage.running_service import live_status
from tests.stage.tenant_stores import TenantStores

DOCUMENTS, LINES, APPROVED = 12, 10, 4
Lines = dict[str, list[str]]
Work = Callable[[TenantStores], Coroutine[Any, Any, object]]


@dataclass
class Reply:
    """A sent reply as the model knows it."""

    document_id: str
    cited: frozenset[str]
    fallen: frozenset[str] = frozenset()


@dataclass
class Model:
    """What stands where, as plain lines."""

    random: Random
    lines: dict[str, list[str]]
    """By document; an empty list: withdrawn, or suspended."""
    replies: dict[str, Reply] = field(default_factory=dict[str, Reply])
    expected: dict[str, str] = field(default_factory=dict[str, str])
    """Reply = its document, of each that ever rested on a line that did not stand when it was swept."""
    changes: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    """Document, replies that rest on it, and those of which another line fell."""
    fresh: Any = field(default_factory=lambda: count(1))

    def line(self) -> str:
        return f"Rule {next(self.fresh)} holds for {self.random.choice(['a child', 'an adult', 'a plan'])}."

    def judge(self, document_id: str) -> tuple[int, int]:
        """Judge the replies of a document by its lines now; return how many there are, and how many fell."""
        resting = {name: one for name, one in self.replies.items() if one.document_id == document_id}
        fell = 0
        for name, one in resting.items():
            fallen = one.cited - set(self.lines[document_id])
            fell += bool(fallen - one.fallen)
            one.fallen = fallen
            if fallen:
                self.expected[name] = document_id
        return len(resting), fell


def forked(place: Path, work: Work, *, kill_after: int | None = None) -> tuple[bool, int]:
    return processes.forked(lambda: in_stores(place, work), kill_after=kill_after)


async def in_stores(place: Path, work: Work) -> object:
    stores = TenantStores(place)
    try:
        return await work(stores)
    finally:
        await stores.close()


async def sweep(stores: TenantStores) -> None:
    services = SimpleNamespace(store=stores.desk, records=stores.records, knowledge=stores.knowledge)
    run = RecallSweep(cast("Any", services), stores.get(RECALLS), stores.get(SENDS), due_days=3)
    await run()


async def write(stores: TenantStores, document_id: str, lines: list[str]) -> None:
    """Bring a document or an approved answer into the state of the model."""
    if document_id.startswith(APPROVED_PREFIX):
        state = ItemState.LIVE if lines else ItemState.SUSPENDED
        because = "" if lines else "Its source changed."
        body = approved(text="\n".join(lines) or "Suspended.", state=state, suspended_because=because)
        item_id = document_id.removeprefix(APPROVED_PREFIX)
        newest = await stores.desk.get(DeskKind.APPROVED_ANSWER, item_id)
        item = {"kind": DeskKind.APPROVED_ANSWER, "item_id": item_id, "at": AT, "by": "rita"}
        revision = newest.revision + 1 if newest else 1
        await stores.desk.put(DeskItem(**item, revision=revision, body=body.model_dump_json()))
        return
    if not lines:
        (status,) = (await stores.states.get_many([document_id])).values()
        await stores.states.put_many([status.model_copy(update={"state": DocumentState.WITHDRAWN})])
        await stores.documents.delete(document_id)
        return
    document = Document(
        document_id=document_id, title=document_id, content="\n\n".join(lines), media_type="text/plain"
    )
    await stores.documents.put(document)
    await stores.documents.put_parsed(document_id, document.content_hash(), parse_document(document))
    await stores.states.put_many([live_status(document)])


async def send(stores: TenantStores, model: Model, name: str, *, lines: dict[str, list[str]]) -> None:
    """Send a reply that cites one to three lines of a document, as they stand in ``lines``."""
    document_id = model.random.choice([each for each, there in lines.items() if there])
    cited = model.random.sample(lines[document_id], k=model.random.randint(1, 3))
    if document_id.startswith(APPROVED_PREFIX):
        text = "\n".join(lines[document_id])
        content_hash = approved_hash(text)
    else:
        content = "\n\n".join(lines[document_id])
        document = Document(
            document_id=document_id, title=document_id, content=content, media_type="text/plain"
        )
        text, content_hash = parse_document(document).text, document.content_hash()
    spans = [(text.index(line), text.index(line) + len(line)) for line in cited]
    units = tuple(QuotedUnit(document_id=document_id, content_hash=content_hash, span=span) for span in spans)
    record = samples.answer(f"a{name}").model_copy(update={"quoted": units, "sentences": (), "passages": ()})
    await stores.records.put_answer(record)
    await stores.records.append_sent(f"a{name}", Sent(send_id=name, text="Sent."), agent="ana")
    model.replies[name] = Reply(document_id, frozenset(cited))


def change(model: Model) -> str:
    """Change one document or approved answer of the model, and return its id."""
    random = model.random
    document_id = random.choice(list(model.lines))
    lines = model.lines[document_id]
    kind = random.choice(["edit", "edit", "edit", "move", "insert", "gone", "delete"])
    if not lines:
        lines += [model.line() for _ in range(LINES)]
    elif kind == "edit":
        for place in random.sample(range(len(lines)), k=min(3, len(lines))):
            lines[place] = model.line()
    elif kind == "move":
        lines.append(lines.pop(random.randrange(len(lines))))
        lines.insert(0, model.line())
    elif kind == "insert":
        lines.insert(random.randrange(len(lines)), model.line())
    elif kind == "delete" and len(lines) > 1:
        lines.pop(random.randrange(len(lines)))
    else:
        lines.clear()
    return document_id


async def found(recalls: StoredRecalls) -> dict[str, Any]:
    """Return the list, the changes, and items with a revision that says nothing new."""
    items: list[Any] = []
    after: str | None = None
    while True:
        page, after = await recalls.items(None, after=after, limit=200)
        items += page
        if after is None:
            break
    changes, after = await recalls.changes(after=None, limit=200)
    assert after is None
    repeated = 0
    for item in items:
        history = await recalls.history(item.reply.item_id)
        fallen = [revision.reply.units for revision in history]
        repeated += any(a == b for a, b in pairwise(fallen))
    return {
        "listed": Counter(item.reply.send_id for item in items),
        "of": {item.reply.send_id: item.reply.document_id for item in items},
        "changes": [(one.document_id, one.replies, one.affected) for one in reversed(changes)],
        "repeated": repeated,
    }


def main(place: Path, seed: int, kills: int, replies: int, changes: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    random = Random(seed)  # noqa: S311 (no secret)
    names = [f"d{number}" for number in range(DOCUMENTS)]
    names += [f"{APPROVED_PREFIX}q{number}" for number in range(APPROVED)]
    model = Model(random, {name: [] for name in names})
    model.lines = {name: [model.line() for _ in range(LINES)] for name in names}

    def run(work: Work) -> None:
        asyncio.run(in_stores(place, work))

    async def begin(stores: TenantStores) -> None:
        for name, lines in model.lines.items():
            await write(stores, name, lines)

    run(begin)
    _, all_calls = forked(place, sweep)
    killed, before, sent = 0, {name: list(lines) for name, lines in model.lines.items()}, 0
    for step in range(changes):
        due = replies * (step + 1) // changes - sent

        async def send_some(
            stores: TenantStores, numbers: range = range(sent, sent + due), old: Lines = before
        ) -> None:
            for number in numbers:
                # Every tenth on the words before the last change.
                await send(stores, model, f"s{number}", lines=model.lines if number % 10 else old)

        before_change = {name: list(lines) for name, lines in model.lines.items()}
        run(send_some)
        sent += due
        before = before_change
        late_judged = {one.document_id for one in model.replies.values()}
        document_id = change(model)
        run(lambda stores, name=document_id: write(stores, name, model.lines[name]))
        while step % 2 == 0 and killed < kills:
            was_killed, _ = forked(place, sweep, kill_after=random.randrange(all_calls))
            killed += was_killed
            if was_killed:
                break
        _, all_calls = forked(place, sweep)
        # Late replies on other documents are judged by themselves; those of this one by its change.
        for name in late_judged - {document_id}:
            model.judge(name)
        model.changes.append((document_id, *model.judge(document_id)))

    async def look(stores: TenantStores) -> dict[str, Any]:
        return await found(stores.get(RECALLS))

    result = cast("dict[str, Any]", asyncio.run(in_stores(place, look)))
    listed, of = result["listed"], result["of"]
    said = {
        "sent": sent,
        "changes": len(model.changes),
        "killed": killed,
        "expected": len(model.expected),
        "listed": len(listed),
        "missed": sorted(set(model.expected) - set(listed)),
        "others": sorted(set(listed) - set(model.expected)),
        "doubled": [name for name, times in listed.items() if times > 1],
        "elsewhere": [name for name, document in of.items() if model.expected.get(name) != document],
        "repeated": result["repeated"],
        "nobody": sum(affected == 0 for _, _, affected in model.changes),
        "different": [
            pair for pair in zip(model.changes, result["changes"], strict=True) if pair[0] != pair[1]
        ],
    }
    sys.stdout.write(json.dumps(said) + "\n")


SIZES = [os.environ.get(name, few) for name, few in (("KILLS", "5"), ("REPLIES", "60"), ("CHANGES", "12"))]
SEED = os.environ.get("SEED", "7")


@pytest.mark.timeout(700)
def test_a_killed_sweep_lists_every_affected_reply_once_and_none_other(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.options.desk.test_sweep_kills", str(tmp_path), SEED, *SIZES],
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
    )
    found = json.loads(ended.stdout.splitlines()[-1]) | {"seed": SEED}
    sys.stdout.write(f"\nrecall: {json.dumps(found)}\n")
    assert [str(found[name]) for name in ("killed", "sent", "changes")] == SIZES, found
    assert found["expected"] == found["listed"] > 0, found
    assert 0 < found["nobody"] < found["changes"], found
    wrong = ("missed", "others", "doubled", "elsewhere", "repeated", "different")
    assert {name: found[name] for name in wrong if found[name]} == {}, found


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
