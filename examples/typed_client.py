"""An answer event by event, a verdict, and the record: ``python examples/typed_client.py QUESTION``.

Needs ASSISTANT_URL and ASSISTANT_TOKEN (examples/README.md).
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from contextlib import aclosing

from assistant.answer.events import Checked, Done, Problem, Sources, Started, Token
from assistant.client import AssistantClient, Question, RefusedByServiceError
from assistant.domain.answers import Verdict, VerdictLabel


async def ask(question: str) -> int:
    """Print the answer as it comes, mark it good, print its record; return 0, or 1 when the answer failed."""
    answer_id, succeeded = "", False
    async with AssistantClient(os.environ["ASSISTANT_URL"], token=os.environ["ASSISTANT_TOKEN"]) as client:
        # The client follows the answer by itself when the connection breaks within 15 s.
        async with aclosing(client.stream(Question(question=question, resume_window_s=15))) as events:
            async for event in events:
                match event:
                    case Started():
                        answer_id = event.answer_id
                    case Sources():
                        for source in event.sources:
                            print(f"[{source.n}] {source.title} ({source.document_id})")
                    case Token():
                        print(event.text, end="", flush=True)
                    case Done():
                        succeeded = True
                        print(f"\n-- {event.finish_reason}, cites {list(event.citations)}")
                    case Checked():
                        doubted = [check for check in event.sentences if check.verdict != "held"]
                        print(f"-- checked by {event.by}: {len(doubted)} sentences to look at")
                    case Problem():
                        print(f"\n-- failed: {event.code}: {event.detail}", file=sys.stderr)
                    case _:
                        pass
        if not succeeded:
            return 1
        # In a real application an agent marks the answer after reading it: the assistant learns from
        # verdicts.
        verdict = Verdict(verdict_id=uuid.uuid4().hex, label=VerdictLabel.GOOD)
        await client.give_verdict(answer_id, verdict)
        stored = await client.read_answer(answer_id)
        print(f"-- recorded: {stored.record.question!r}, marked {stored.verdicts[-1].verdict.label}")
        return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(ask(" ".join(sys.argv[1:]))))
    except RefusedByServiceError as error:
        sys.exit(f"The service refused: {error}")
