"""Fills and reads a tenant's stores: ``python release_state.py fill|read|open FOLDER [COUNT]``.

It runs by the code of this release and by that of the release before, whichever is on the path.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.domain.answers import Act, AgentAct, AnswerRecord, Sent, Verdict, VerdictLabel
from assistant.domain.desk import Case, CaseReason, DeskItem, DeskKind
from assistant.stores.desk import DESK
from assistant.stores.documents import STATES
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.records import RECORDS


def open_stores(folder: Path) -> tuple[Any, Any, Any, Any]:
    stores = EmbeddedTenant(folder)
    return stores, stores.get(RECORDS), stores.get(DESK), stores.get(STATES)


NOW = datetime(2026, 11, 20, tzinfo=UTC)


async def fill(records: Any, desk: Any, *, count: int, answer: AnswerRecord) -> None:
    """Add so many answers, each with a verdict, a sent text, an act and a case."""
    for number in range(count):
        name = f"filled{number}"
        more = {
            "answer_id": name,
            "conversation_id": f"conversation{number % 100}",
            "question": f"Q {number}",
        }
        await records.put_answer(answer.model_copy(update=more))
        good = Verdict(verdict_id=f"v{number}", label=VerdictLabel.GOOD)
        await records.append_verdict(name, good, agent="ana")
        await records.append_sent(name, Sent(send_id=f"s{number}", text=f"Text {number}."), agent="ana")
        act = Act(act_id=f"a{number}", kind=AgentAct.POSSIBLY_TAKEN)
        await records.append_act(name, act, agent="ana")
        if number % 10 == 0:
            case = Case(answer_id=name, reason=CaseReason.UNANSWERED, opened_at=NOW)
            body = case.model_dump_json()
            item = DeskItem(kind=DeskKind.CASE, item_id=name, revision=1, at=NOW, by="ana", body=body)
            await desk.put(item)


async def read(records: Any, desk: Any, states: Any) -> dict[str, Any]:
    """Return counts, and a digest of what both releases know of each answer and its feedback."""
    digest, kept = hashlib.sha256(), 0
    for number in range(1_000_000):
        name = f"filled{number}"
        answer = await records.get_answer(name)
        if answer is None:
            break
        kept += 1
        sent, acts = await records.list_sent(name), await records.list_acts(name)
        whole = (
            answer.question,
            answer.text,
            [each.sent.text for each in sent],
            [str(a.act.kind) for a in acts],
        )
        digest.update(json.dumps(whole).encode())
    cases = await desk.list(DeskKind.CASE, limit=100_000)
    for case in cases:
        Case.model_validate_json(case.body)
    return {
        "answers": kept,
        "digest": digest.hexdigest(),
        "verdicts": len(await records.list_verdicts(limit=1_000_000)),
        "cases": len([case for case in cases if case.item_id.startswith("filled")]),
        "documents": sum((await states.count_by_state()).values()),
    }


async def main(verb: str, folder: Path, *rest: str) -> None:
    stores, records, desk, states = open_stores(folder)
    if verb == "fill":
        answer = await records.get_answer(rest[1])
        assert answer is not None
        await fill(records, desk, count=int(rest[0]), answer=answer)
    elif verb == "open":
        await asyncio.gather(records.get_answer("none"), desk.version(), states.get("none"))
    elif verb == "answer":
        answer = await records.get_answer(rest[0])
        assert answer is not None
        newer = getattr(answer, "reading", None) is not None
        sys.stdout.write(json.dumps({"text": answer.text, "newer": newer}))
    else:
        sys.stdout.write(json.dumps(await read(records, desk, states)))
    await stores.close()


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
