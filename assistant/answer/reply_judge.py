"""Lets the model that writes judge a text for a patient, in a call of its own: each sentence against the
numbered lines of its answer, and whether the value that was asked for is missing.

The check by code (``reply_check``) stands where the model is late, fails, or writes what is no verdict.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import structlog

from assistant.answer.prompt import count_tokens, fill_slots, load_prompt, quoted, rendered
from assistant.answer.services import TenantServices
from assistant.domain.answers import ReplyCheck, Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel
from assistant.stores.ports import AnswerGenerator, ChatMessage, GenerationRequest
from assistant.text.caches import TextCache
from assistant.text.language import SentenceSpan, split_sentences

_log = structlog.get_logger(__name__)
PROMPT = "reply_check/1"
_KEPT = 2_000
"""Verdicts that are kept: an edit of one sentence asks for one verdict."""
_TOKENS_A_VERDICT = 48
"""Of the JSON of a verdict, without the words that it copies from the sentence."""
_CHARACTERS_A_TOKEN = 16
"""More than any token of such an answer has: what is longer is no verdict."""


class Verdict(PublicModel):
    """The model's judgement of one sentence."""

    n: int
    line: int | None
    """Number of the line that decides."""
    words: str
    """What is wrong, as the sentence has it."""
    verdict: Literal["held", "not_held", "opposite"]


class Verdicts(PublicModel):
    """The whole answer."""

    sentences: tuple[Verdict, ...]
    missing: str | None
    """The value that was asked for, as a line has it."""


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """What is wrong with a text for a patient."""

    checks: tuple[ReplyCheck, ...]
    """What code found, as far as it stands, then what the model added."""
    degraded: tuple[str, ...] = ()
    """``reply_check`` where a model writes and has not read the text."""
    usage: Usage = field(default_factory=Usage)


class JudgeReply:
    """Judges texts of one tenant.

    Example::

        lines = ["Appeal: A member has 60 days to appeal."]
        await judge.run("You have 90 days.", lines=lines, question="how long?", before=None, deadline=limit)
        # CheckedReply((ReplyCheck(kind="contradicts", values=("90 days",), line="Appeal: A member …"),), …)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._verdicts = TextCache[Verdict](_KEPT)
        """By the question and its lines, the sentence before, and the sentence."""
        self._missing = TextCache[str](_KEPT)
        """By the question and its lines, and the whole text; empty: it lacks no value."""

    async def run(
        self, text: str, *, lines: Sequence[str], question: str, before: str | None, deadline: Deadline
    ) -> CheckedReply | None:
        """Return the faults of a text; None where the model gave no readable verdict in time. Sentences that
        were judged after the same sentence, for the same lines, are not judged again.

        ``lines``: each on one line, neutralised. ``before``: the question before ``question``.
        """
        spans, asked = split_sentences(text), (before, question, *lines)
        texts = [quoted(span.text) for span in spans]
        keys = [(*asked, *pair) for pair in pairwise(["", *texts])]
        judged = {n: verdict for n, key in enumerate(keys, start=1) if (verdict := self._verdicts.get(key))}
        missing, usage = self._missing.get((*asked, text)), Usage()
        new = [n for n in range(1, len(texts) + 1) if n not in judged]
        if new or missing is None:
            slots = {
                "before": f"The question before it: {quoted(before)}\n\n" if before else "",
                "question": quoted(question),
                "lines": "\n".join(f"{n}. {line}" for n, line in enumerate(lines, start=1)),
                "sentences": "\n".join(
                    f"{n}. {sentence}" if n in new else f"- {sentence}"
                    for n, sentence in enumerate(texts, start=1)
                ),
            }
            answer = await self._asked(slots, new, lines, deadline)
            if answer is None:
                return None
            verdicts, usage = answer
            for verdict in verdicts.sentences:
                judged[verdict.n] = verdict
                self._verdicts.keep(keys[verdict.n - 1], verdict)
            missing = verdicts.missing or ""
            self._missing.keep((*asked, text), missing)
        checks = [*_faults(spans, [judged[n] for n in sorted(judged)], lines)]
        if missing:
            checks.append(ReplyCheck.found("missing", (missing,)))
        return CheckedReply(tuple(checks), usage=usage)

    async def _asked(
        self, slots: dict[str, str], new: Sequence[int], lines: Sequence[str], deadline: Deadline
    ) -> tuple[Verdicts, Usage] | None:
        """Return the model's verdicts of the sentences with the numbers ``new``, and what was counted; None
        where it gave none that can be read in time."""
        tenant, writer = self._services.tenant, self._services.writer
        template = load_prompt(PROMPT)
        messages = rendered(
            (ChatMessage("system", template.system), ChatMessage("user", fill_slots(template, slots))),
            system_role=writer.model.system_role,
        )
        most = writer.token_counter.count(slots["sentences"]) + _TOKENS_A_VERDICT * (len(new) + 1)
        if count_tokens(messages, writer) > tenant.generation.context_tokens - most:
            _log.warning("reply_check_too_long")
            return None
        request = GenerationRequest(messages, max_tokens=most, temperature=0.0)
        try:
            reply, usage = await _text_within(
                tenant.limits.first_token_timeout_s,
                writer.generator,
                request,
                deadline=deadline,
                most=_CHARACTERS_A_TOKEN * most,
            )
            return _parsed(reply, new, lines), usage
        except (AssistantError, TimeoutError, ValueError) as error:
            _log.warning("reply_check_failed", error=type(error).__name__)
            return None


async def _text_within(
    limit_s: float, generator: AnswerGenerator, request: GenerationRequest, *, deadline: Deadline, most: int
) -> tuple[str, Usage]:
    """Return the first ``most`` characters that a model writes within ``limit_s``, and what was counted.
    Raises AssistantError, TimeoutError."""
    step = Deadline.after(deadline.within_s(limit_s), clock=deadline.clock)
    text, usage = "", Usage()
    async with asyncio.timeout(step.remaining_s()):
        async with generator.stream(request, deadline=step) as stream:
            async for delta in stream:
                text += delta.text
                usage = delta.usage or usage
                if len(text) >= most:
                    break
    return text[:most], usage


def _parsed(reply: str, asked: Sequence[int], lines: Sequence[str]) -> Verdicts:
    """Return the verdicts. Raises ValueError (ValidationError is one) for anything else."""
    verdicts = Verdicts.model_validate_json(reply[reply.find("{") : reply.rfind("}") + 1], strict=True)
    if [verdict.n for verdict in verdicts.sentences] != list(asked):
        raise ValueError("other sentences")
    cited = [verdict.line for verdict in verdicts.sentences if verdict.line is not None]
    if any(not 1 <= line <= len(lines) for line in cited):
        raise ValueError("no such line")
    if verdicts.missing and quoted(verdicts.missing).casefold() not in "\n".join(lines).casefold():
        raise ValueError("no line has what is missing")
    return verdicts


def _faults(
    spans: Sequence[SentenceSpan], verdicts: Sequence[Verdict], lines: Sequence[str]
) -> Iterator[ReplyCheck]:
    """Yield a fault for each sentence that the lines do not hold. ``verdicts``: of the sentences."""
    for span, verdict in zip(spans, verdicts, strict=True):
        if verdict.verdict != "held":
            yield ReplyCheck.found(
                "contradicts" if verdict.verdict == "opposite" else "not_held",
                (verdict.words,) if verdict.words and verdict.words in span.text else (),
                words=span.text,
                start=span.start,
                line=None if verdict.line is None else lines[verdict.line - 1],
            )
