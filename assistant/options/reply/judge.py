"""Lets the model that writes judge a text for a patient: one call that compares each sentence with the
numbered lines of the answer, and says which value that was asked for is missing.

``WriteReply.check`` runs the check by code (``check``) first, then this one, and joins their findings.
Where this one returns None, because the model is late, fails, or writes what is no verdict, the findings of
the code stand alone.
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
from assistant.options.reply.prompt import PACKAGE
from assistant.stores.ports import AnswerGenerator, ChatMessage, GenerationRequest
from assistant.text.caches import TextCache
from assistant.text.language import SentenceSpan, split_sentences

_log = structlog.get_logger(__name__)
PROMPT = "reply_check/1"
_MOST_KEPT = 2_000
"""Verdicts that are kept, so that an edit of one sentence asks the model for one verdict."""
_TOKENS_A_VERDICT = 48
"""Of the JSON of one verdict, without the words that it copies from the sentence."""
_CHARACTERS_A_TOKEN = 16
"""More than any token of such an answer has: what is longer is no verdict."""


class Verdict(PublicModel):
    """The model's judgement of one sentence, as it writes it:
    ``{"n": 2, "line": 1, "words": "90 days", "verdict": "opposite"}``."""

    n: int
    """Number of the sentence in the text that the model read, from 1. A verdict that is kept may be of
    another text, where the sentence had another number."""
    line: int | None
    """Number of the line that decides, from 1; None where none does."""
    words: str
    """What is wrong, copied from the sentence; empty where it is held."""
    verdict: Literal["held", "not_held", "opposite"]
    """``held``: it follows from the lines or the question. ``opposite``: a line says otherwise. ``not_held``:
    neither says it."""


class Verdicts(PublicModel):
    """The whole text that the model writes, in the form that the prompt asks for."""

    sentences: tuple[Verdict, ...]
    """Of each sentence that the prompt numbers, in order."""
    missing: str | None
    """The value that was asked for and that the text lacks, copied from a line."""


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """What is wrong with a text for a patient: of ``JudgeReply.run`` by the model alone, of
    ``WriteReply.check`` by code and model."""

    checks: tuple[ReplyCheck, ...]
    degraded: tuple[str, ...] = ()
    """``reply_check`` where a model should have read the text and has not."""
    usage: Usage = field(default_factory=Usage)


class JudgeReply:
    """Judges texts of one tenant.

    Example::

        lines = ["Appeal: A member has 60 days to appeal."]
        asked = {"question": "how long?", "before": None, "of": ("a1", "ann")}
        await judge.run("You have 90 days.", lines=lines, deadline=limit, **asked)
        # CheckedReply((ReplyCheck(kind="contradicts", values=("90 days",), line="Appeal: A member …"),), …)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._kept_verdicts = TextCache[Verdict](_MOST_KEPT)
        """By answer and agent, the questions and lines, the sentence before, and the sentence itself."""
        self._kept_missing = TextCache[str](_MOST_KEPT)
        """By answer and agent, questions and lines, and the whole text; empty where nothing is missing."""

    async def run(
        self,
        text: str,
        *,
        lines: Sequence[str],
        question: str,
        before: str | None,
        of: tuple[str, str],
        deadline: Deadline,
    ) -> CheckedReply | None:
        """Return the faults of a text; None where the model gave no readable verdict in time.

        Of an edited text the model judges only the sentences that are new, or follow another sentence than
        before. It is not asked where all are known and the same text was judged whole.

        ``lines``: each on one line, neutralised. ``before``: the question before ``question``, or None.
        ``of``: answer and agent, to whom a kept verdict belongs.
        """
        spans = split_sentences(text)
        sentences = [quoted(span.text) for span in spans]
        basis = (*of, before, question, *lines)  # what sentences are judged by, and for whom
        keys = [(*basis, previous, sentence) for previous, sentence in pairwise(["", *sentences])]
        verdicts = [self._kept_verdicts.get(key) for key in keys]
        missing, usage = self._kept_missing.get((*basis, text)), Usage()
        new = [number for number, verdict in enumerate(verdicts, start=1) if verdict is None]
        if new or missing is None:
            slots = {
                "before": f"The question before it: {quoted(before)}\n\n" if before else "",
                "question": quoted(question),
                "lines": "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1)),
                "sentences": "\n".join(
                    f"{number}. {sentence}" if number in new else f"- {sentence}"
                    for number, sentence in enumerate(sentences, start=1)
                ),
            }
            judged = await self._judged(slots, new, lines, deadline)
            if judged is None:
                return None
            written, usage = judged
            for verdict in written.sentences:
                verdicts[verdict.n - 1] = verdict
                self._kept_verdicts.keep(keys[verdict.n - 1], verdict)
            missing = written.missing or ""
            self._kept_missing.keep((*basis, text), missing)
        checks = [*_faults(spans, [verdict for verdict in verdicts if verdict is not None], lines)]
        if missing:
            checks.append(ReplyCheck.found("missing", (missing,)))
        return CheckedReply(tuple(checks), usage=usage)

    async def _judged(
        self, slots: dict[str, str], new: Sequence[int], lines: Sequence[str], deadline: Deadline
    ) -> tuple[Verdicts, Usage] | None:
        """Ask the model, and return its verdicts with the tokens that it took; None where it gave none that
        can be read in time.

        ``slots`` fill the prompt. There a sentence to judge has its number, which is in ``new``; any other
        has a dash, and stands there so that the new ones can be understood: "- Thanks for asking.", "2. Bye."
        """
        tenant, writer = self._services.tenant, self._services.writer
        template = load_prompt(PROMPT, PACKAGE)
        messages = rendered(
            (ChatMessage("system", template.system), ChatMessage("user", fill_slots(template, slots))),
            system_role=writer.model.system_role,
        )
        # The answer copies at most every sentence; one verdict more is for ``missing`` and the braces.
        most_tokens = writer.token_counter.count(slots["sentences"]) + _TOKENS_A_VERDICT * (len(new) + 1)
        if count_tokens(messages, writer) > tenant.generation.context_tokens - most_tokens:
            _log.warning("reply_check_too_long")
            return None
        request = GenerationRequest(messages, max_tokens=most_tokens, temperature=0.0)
        try:
            # All of it must come in the time that a written answer has for its first token.
            limit_s = deadline.within_s(tenant.limits.first_token_timeout_s)
            step = Deadline.after(limit_s, clock=deadline.clock)
            written, usage = await _beginning(
                writer.generator, request, deadline=step, most_characters=_CHARACTERS_A_TOKEN * most_tokens
            )
            return _parsed(written, new, lines), usage
        except (AssistantError, TimeoutError, ValueError) as error:
            _log.warning("reply_check_failed", error=type(error).__name__)
            return None


async def _beginning(
    generator: AnswerGenerator, request: GenerationRequest, *, deadline: Deadline, most_characters: int
) -> tuple[str, Usage]:
    """Return the first characters that a model writes, and the tokens that it took. Raises AssistantError,
    TimeoutError."""
    text, usage = "", Usage()
    async with asyncio.timeout(deadline.remaining_s()):
        async with generator.stream(request, deadline=deadline) as stream:
            async for delta in stream:
                text += delta.text
                usage = delta.usage or usage
                if len(text) >= most_characters:
                    break
    return text[:most_characters], usage


def _parsed(written: str, new: Sequence[int], lines: Sequence[str]) -> Verdicts:
    """Return the JSON object that the model wrote, also with words around it.

    Raises ValueError (ValidationError is one) for anything else: no such object, verdicts of other sentences
    than ``new``, a line that is not there, a missing value that no line has.
    """
    verdicts = Verdicts.model_validate_json(written[written.find("{") : written.rfind("}") + 1], strict=True)
    if [verdict.n for verdict in verdicts.sentences] != list(new):
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
    """Yield a fault for each sentence that the lines do not hold. ``verdicts``: of each sentence."""
    for span, verdict in zip(spans, verdicts, strict=True):
        if verdict.verdict != "held":
            yield ReplyCheck.found(
                "contradicts" if verdict.verdict == "opposite" else "not_held",
                (verdict.words,) if verdict.words and verdict.words in span.text else (),
                words=span.text,
                start=span.start,
                line=None if verdict.line is None else lines[verdict.line - 1],
            )
