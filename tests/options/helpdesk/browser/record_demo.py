"""``python -m tests.options.helpdesk.browser.record_demo [STATE]``: gives the demo's recorded texts to the
prompts of today, after a change of these.

It asks each question that the pages of pharmacy and clinic offer, and each line of the simulated patients, as
the console and the agents' desk do, and adds a line to ``evaluation/recorded/demo.jsonl`` for each prompt
that is not recorded: the newest text of the same ``id`` and task. So a language model must have written it:
add its text by hand, under any hash, for a new question. Then read whether the lines still say it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from assistant.cli.ask import sign_context
from assistant.cli.models import play_recorded_answers
from assistant.client import AssistantClient, Question
from assistant.domain.answers import ChatTurn
from assistant.domain.clock import Deadline
from assistant.laptop.tokens import CareCase, Grant
from assistant.models import recorded
from assistant.options.helpdesk.patients import shipped_stories
from assistant.service import opened
from assistant.stores.ports import ChatMessage, GenerationRequest, GenerationStream
from assistant.terminal.loading import load_if_empty
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal

TENANTS = ("pharmacy", "clinic")
FILE = Path("evaluation/recorded/demo.jsonl")
_REPLY = "Thank you for writing. This is what we do."
"""What the agent says between two lines of a patient; no prompt has it."""


class _Rekeying(recorded.RecordedModel):
    """Plays the newest text of the question that is asked now, whatever the prompt, and keeps its line."""

    asked = ""
    """``id`` of the question."""

    def answers(self, messages: Sequence[ChatMessage]) -> bool:
        del messages
        return True

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        prompt, lines = recorded.prompt_sha256(request.messages), recorded.read_recording([FILE])
        tasks = {"You check a message": "reply_check", "You write for": "reply"}
        system = request.messages[0].content
        task = next((task for begin, task in tasks.items() if system.startswith(begin)), "answer")
        known = [line for line in lines if line.prompt_sha256 == prompt]
        texts = known or [line for line in lines if (line.id, line.task) == (self.asked, task)]
        keyed = [line.model_copy(update={"prompt_sha256": prompt}) for line in texts[-1:]]
        if not texts:
            sys.stderr.write(f"{self.asked}: no {task} was recorded\n")
        elif not known:
            with FILE.open("a", encoding="utf-8") as file:  # noqa: ASYNC230 - nobody else waits
                file.write(keyed[0].model_dump_json() + "\n")
        play = recorded.RecordedModel(keyed)
        async with play.stream(request, deadline=deadline) as stream:
            yield stream


async def _ask(client: AssistantClient, qid: str, question: Question) -> str:
    """Ask, have the reply written, and return the conversation's id."""
    _Rekeying.asked = qid
    answer = await client.ask(question)
    if answer.mode == "written":
        await client.write_reply(answer.answer_id)
    return answer.conversation_id


async def _ask_all(runtime: LocalRuntime) -> None:
    for tenant in TENANTS:
        await load_if_empty(runtime, tenant)
        async with runtime.client(Grant(tenant, "demo")) as client:
            for number, text in enumerate(runtime.tenants[tenant].answers.examples, start=1):
                first = {"pharmacy": "demo-cold-delivery", "clinic": "demo-clinic"}[tenant]
                await _ask(
                    client, first if number == 1 else f"demo-{tenant}-{number}", Question(question=text)
                )
    pharmacy = runtime.tenants["pharmacy"]
    for number, story in enumerate(shipped_stories(), start=1):
        turns, conversation = list[ChatTurn](), ""
        async with runtime.client(Grant("pharmacy", "dana")) as client:
            for at, line in enumerate(story.lines, start=1):
                turns.append(ChatTurn(who="customer", text=line, at=datetime.now(UTC)))
                case, qid = CareCase(story.customer, dict(story.ids)), f"demo-story-{number}-{at}"
                # asked alone, and after the line before, which then is in the reply's prompt
                earlier = conversation
                for before in dict.fromkeys(("", earlier)):
                    context = sign_context(runtime.options, pharmacy, "dana", case)
                    asked = Question(turns=tuple(turns), conversation_id=before or None, context=context)
                    conversation = await _ask(client, qid, asked)
                turns.append(ChatTurn(who="agent", text=_REPLY, at=datetime.now(UTC)))


def main() -> None:
    opened.RecordedModel = _Rekeying
    state = Path(sys.argv[1] if len(sys.argv) > 1 else ".state")
    options = GlobalOptions(Path("tenants"), state, 0, json=False)
    play_recorded_answers(options, tenants=TENANTS)
    runtime = local_runtime(options, Terminal())
    with runtime.site(command="a recording"):
        asyncio.run(_ask_all(runtime))


if __name__ == "__main__":
    main()
