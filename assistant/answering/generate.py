"""Builds the prompt of an answer, streams the model's answer to it, and interrupts the call.

A prompt file is immutable once released: its SHA-256 is in every answer's record. It is Markdown with the
sections ``# system`` and ``# user`` and, for models that can follow it, ``# refusal``: what the model answers
when the passages do not contain the answer. ``# elements``, with the slot ``{{elements}}``, follows the
system section where the tenant has live systems. The user section has the slots ``{{passages}}`` and
``{{question}}``. There is no template engine: the file is split at its slots before untrusted text is added.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from assistant.answering.events import Cause
from assistant.answering.excerpts import remember_texts
from assistant.answering.ports import ChatMessage, GenerationDelta, GenerationRequest, GenerationStream
from assistant.answering.services import PROVIDER, Steps, TenantServices, elapsed_ms, fail_span
from assistant.domain.answers import AnswerRecord, FinishReason, Usage
from assistant.domain.clock import Deadline
from assistant.domain.documents import Passage
from assistant.domain.errors import ConfigurationError, GenerationInterruptedError, TooLargeError
from assistant.live.ports import LiveElements

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PROMPT_ID = re.compile(r"[a-z][a-z_]*/[1-9][0-9]*")
_SECTION = re.compile(r"^# (system|elements|user|refusal)\n", re.MULTILINE)
_SLOT = re.compile(r"\{\{(passages|question)\}\}")
# Tags of chat templates and our own delimiters: "<|im_start|>", "</passage>", "<s>", "[INST]".
_TAG_OPENING = re.compile(r"<(?=[A-Za-z/|!?<])")
_BRACKET_TAG = re.compile(r"\[(/?[A-Z_]{3,})\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COUNTS_KEPT = 2_000
"""Token counts that are cached by their text: about 4 MiB."""
_MOST_LISTED = 40
"""Live elements that a prompt lists."""
_TOKENS_A_BORDER = 2
"""Most tokens by which a text and its two parts may differ."""
_WRITTEN = frozenset({FinishReason.STOP, FinishReason.LENGTH})


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One prompt file."""

    prompt_id: str
    sha256: str
    system: str
    user: tuple[str, ...]
    """Literal text at even places, slot names at odd ones."""
    refusal: str | None
    elements: str | None = None
    """Told the model where the tenant has live systems; ``{{elements}}`` is their list."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages for the model, and what was left out of them."""

    prompt_id: str
    prompt_hash: str
    """SHA-256 (hex) of the prompt file."""
    messages: tuple[ChatMessage, ...]
    numbers: tuple[int, ...]
    """Numbers of the sources that the model reads; empty when not even one fits."""
    dropped_passages: int
    history_turns: int
    prompt_tokens: int
    """Counted, the chat template's own tokens included."""
    refusal: str | None
    lists_elements: bool = False
    """Whether it lists the tenant's live elements."""


@lru_cache
def load_prompt(prompt_id: str) -> PromptTemplate:
    """Return a released prompt. Raises ConfigurationError, which lists the released prompts."""
    resource = files("assistant.answering").joinpath("prompts", *f"{prompt_id}.md".split("/"))
    if not _PROMPT_ID.fullmatch(prompt_id) or not resource.is_file():
        raise ConfigurationError(
            f'[answering] prompt = "{prompt_id}": there is no such prompt; there is '
            f"{', '.join(prompt_ids())}."
        )
    content = resource.read_bytes()
    _, *parts = _SECTION.split(content.decode())
    sections = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    user = tuple(_SLOT.split(sections["user"]))
    return PromptTemplate(
        prompt_id=prompt_id,
        sha256=hashlib.sha256(content).hexdigest(),
        system=sections["system"],
        user=user,
        refusal=sections.get("refusal"),
        elements=sections.get("elements"),
    )


def prompt_ids() -> list[str]:
    """Return the ids of all released prompts."""
    tasks = files("assistant.answering").joinpath("prompts").iterdir()
    return sorted(
        f"{task.name}/{version.name.removesuffix('.md')}"
        for task in tasks
        if task.is_dir()
        for version in task.iterdir()
        if version.name.endswith(".md")
    )


class FileTokenCounter:
    """Counts tokens with a ``tokenizer.json``, which is loaded on first use, without truncation and padding.

    Raises ConfigurationError naming the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tokenizer: Tokenizer | None = None

    def count(self, text: str) -> int:
        self.load()
        assert self._tokenizer is not None  # noqa: S101 (for the type checker)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def load(self) -> None:
        """Load the file now, so that an invalid one is reported at start."""
        if self._tokenizer is None:
            self._tokenizer = _load_tokenizer(self._path)


def _load_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the binding raises nothing narrower
        problem = f"the model's tokenizer cannot be read: {error}"
        raise ConfigurationError(f"{path}: {problem}; it is part of the model's artifact.") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with suppress(AttributeError, OSError):  # only glibc has it
        # Reading takes 32 MiB, half of which the allocator would keep for good.
        ctypes.CDLL(None).malloc_trim(0)
    return tokenizer


class PromptBuilder:
    """Builds prompts that fit the served model's context. Questions and passages are never cut."""

    def __init__(self, services: TenantServices) -> None:
        self._counter = services.token_counter
        self._tokens_of = remember_texts(_COUNTS_KEPT)(self._counter.count)
        self._model = services.model
        self._context_tokens = services.tenant.generation.context_tokens
        self._template = load_prompt(services.model.prompt)
        told = _told_of_elements(self._template, services.live_elements)
        self._lists_elements = bool(told)
        self._system = ChatMessage("system", self._template.system + told)

    @cached_property
    def _system_tokens(self) -> int:
        """Tokens of the system message, which is the same in every prompt."""
        return self._count(self._system)

    def build(
        self, question: str, *, passages: Sequence[Passage], history: Sequence[AnswerRecord], max_tokens: int
    ) -> Prompt:
        """Build the prompt for an answer of ``max_tokens``.

        ``passages``: the sources, best first; the model reads as many whole ones as its manifest allows and
        the budget holds. ``history``: oldest first; its last turns use the rest of the budget. Raises
        TooLargeError when the question alone does not fit.
        """
        budget = self._context_tokens - max_tokens - self._model.template_tokens_per_prompt
        wanted = min(self._model.passages, len(passages))
        asked = neutralise(question)
        for read in range(wanted, -1, -1):
            parts = user_parts(self._template, asked, [one.embedding_input for one in passages[:read]])
            user = ChatMessage("user", "".join(parts))
            tokens = self._system_tokens + self._count_parts(parts, asked)
            if history or tokens + _TOKENS_A_BORDER * len(parts) > budget:  # history fills what is left
                tokens = self._system_tokens + self._count(user)
            if tokens <= budget:
                break
        else:
            raise TooLargeError(
                f"The question does not fit the model's context of {self._context_tokens} tokens beside an "
                f"answer of {max_tokens}; shorten it or ask for fewer max_tokens."
            )
        turns, turn_tokens = self._turns(history, budget=budget - tokens if read else 0)
        return Prompt(
            prompt_id=self._template.prompt_id,
            prompt_hash=self._template.sha256,
            messages=(self._system, *turns, user),
            numbers=tuple(range(1, read + 1)),
            dropped_passages=wanted - read,
            history_turns=len(turns) // 2,
            prompt_tokens=tokens + turn_tokens + self._model.template_tokens_per_prompt,
            refusal=self._template.refusal,
            lists_elements=self._lists_elements,
        )

    def _count_parts(self, parts: Sequence[str], asked: str) -> int:
        """Return the tokens of the user message, counted by its parts.

        Passages and the template's text are counted once for all questions; a question is never cached. A
        token may reach over a border, so the whole has at most _TOKENS_A_BORDER tokens more or less at each.
        """
        counted = (self._counter.count(part) if part is asked else self._tokens_of(part) for part in parts)
        return self._model.template_tokens_per_message + sum(counted)

    def _turns(self, history: Sequence[AnswerRecord], *, budget: int) -> tuple[list[ChatMessage], int]:
        """Return the last turns that fit, oldest first and without a gap, and their tokens."""
        messages: list[ChatMessage] = []
        used = 0
        written = [turn for turn in history if turn.finish_reason in _WRITTEN and turn.text]
        for turn in reversed(written[-self._model.history_turns :] if self._model.history_turns else []):
            pair = [
                ChatMessage("user", neutralise(turn.question)),
                ChatMessage("assistant", neutralise(turn.text)),
            ]
            tokens = sum(self._count(message) for message in pair)
            if used + tokens > budget:
                break
            messages[:0] = pair
            used += tokens
        return messages, used

    def _count(self, message: ChatMessage) -> int:
        return self._counter.count(message.content) + self._model.template_tokens_per_message


def _told_of_elements(template: PromptTemplate, live: LiveElements | None) -> str:
    """Return what the system message says of live elements; empty without any, or in a prompt that does not
    know them."""
    types = list(live.types().values())[:_MOST_LISTED] if live is not None else []
    if template.elements is None or not types:
        return ""
    lines = [f"{{{{{one.name}}}}}: {neutralise(' '.join(one.title.split()))}" for one in types]
    return f"\n\n{template.elements.replace('{{elements}}', chr(10).join(lines))}"


def user_parts(template: PromptTemplate, asked: str, passages: Sequence[str]) -> list[str]:
    """Return the user message in parts: the template's own text, each passage, the question.

    ``asked`` is neutralised by the caller. ``passages``: with title and heading, as they are embedded.
    """
    quoted = [quote_passage(text) for text in passages]
    slots = {"passages": [f"{text}\n\n" for text in quoted[:-1]] + quoted[-1:], "question": [asked]}
    parts = enumerate(template.user)
    return [text for place, part in parts for text in (slots[part] if place % 2 else [part])]


def quote_passage(text: str) -> str:
    """Return a passage between delimiters that its text cannot close."""
    return f"<passage>\n{neutralise(text)}\n</passage>"


def neutralise(text: str) -> str:
    """Return untrusted text without anything that a chat template or our delimiters treat as a tag.

    The opening bracket of a tag becomes a look-alike, so the text reads as before.
    """
    text = _CONTROL.sub(" ", text)
    text = _TAG_OPENING.sub("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", text)
    return _BRACKET_TAG.sub(r"(\1)", text)


# The streamed call


class InterruptedAnswerError(Exception):
    """Raised inside ``with interruption:`` after an interruption. It never leaves answering."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


class Interruption:
    """Interrupts the awaits inside ``with interruption:``, and no others.

    ``asyncio.timeout`` around a loop that yields to a reader would also cancel the reader's own awaits. Here
    only the wait itself is cancelled. The first cause counts. A cause that comes between two waits is raised
    at the next one. Bound to one event loop; a wait costs half a microsecond more.
    """

    __slots__ = ("_cancel_sent", "_cancelling_before", "_task", "cause")

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling_before = 0
        self._cancel_sent = False

    def interrupt(self, cause: Cause) -> None:
        """Interrupt the present wait, or the next one. A second cause changes nothing."""
        if self.cause is not None:
            return
        self.cause = cause
        if self._task is not None:
            self._cancel_sent = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self.cause is not None:
            raise InterruptedAnswerError(self.cause)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("An interruptible wait must run inside a task.")
        self._task = task
        self._cancelling_before = task.cancelling()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if task is None or not self._cancel_sent:
            return
        # As in asyncio.timeout: a cancellation that something else requested meanwhile must go on.
        if task.uncancel() > self._cancelling_before or self.cause is None:
            return
        if exception_type is None or issubclass(exception_type, asyncio.CancelledError):
            raise InterruptedAnswerError(self.cause) from exception


@dataclass(slots=True, kw_only=True)
class ModelCall:
    """One call of the model: ``begin``, ``open``, ``read`` until None, ``close``."""

    services: TenantServices
    request: GenerationRequest
    conversation_id: str
    deadline: Deadline
    interruption: Interruption
    steps: Steps
    inference_id: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """As the endpoint counted; None when its stream broke off before it said so."""
    _span: trace.Span = trace.INVALID_SPAN
    _started_s: float = 0.0
    _connection: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opening: asyncio.Task[GenerationStream] | None = None
    _deltas: AsyncIterator[GenerationDelta] | None = None
    _limits: tuple[asyncio.TimerHandle, ...] = ()
    """For the first text and for the whole answer."""
    _has_reached_reader: bool = False
    _first_chunk_ms: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the endpoint accepted the request."""
        return self._deltas is not None

    def begin(self) -> None:
        """Send the request. The caller can show the sources while it is under way."""
        self._started_s = self.services.clock.monotonic_s()
        self._span = self._begin_span()
        context = self.services.generator.stream(self.request, deadline=self.deadline)
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            self._opening = asyncio.create_task(self._connection.enter_async_context(context))

    async def open(self) -> None:
        """Return when the endpoint has accepted the request. The limits of the first text and of the answer
        run from here. Raises as ``read``."""
        if self._opening is None:
            raise RuntimeError("Begin the call before it is opened.")
        loop, interrupt = asyncio.get_running_loop(), self.interruption.interrupt
        limit_s = self.services.tenant.limits.first_token_timeout_s
        self._limits = (
            loop.call_later(limit_s, interrupt, Cause.LATE),
            loop.call_later(self.deadline.remaining_s(), interrupt, Cause.DEADLINE),
        )
        with self.interruption:
            stream = await self._opening
        self.inference_id = stream.inference_id
        self._deltas = aiter(stream)

    async def read(self) -> str | None:
        """Return the next text of the model; None at the end of its stream.

        Raises InterruptedAnswerError (the first text is late, the deadline passed, or somebody interrupted),
        GenerationUnavailableError, GenerationInterruptedError, OverloadedError, DeadlineExceededError.
        """
        if self._deltas is None:
            raise RuntimeError("Open the call before its text is read.")
        while True:
            with self.interruption:
                delta = await anext(self._deltas, None)
            if delta is None:
                if self.finish_reason is None:
                    raise GenerationInterruptedError("The model's stream ended without its end; ask again.")
                return None
            if delta.finish_reason is not None:
                self.finish_reason = FinishReason(delta.finish_reason)
            if delta.usage is not None:
                self.usage = delta.usage
            if delta.text:
                if self._first_chunk_ms is None:
                    self._first_chunk_ms = self._elapsed_ms()
                return delta.text

    def note_first_text(self) -> None:
        """Note that text of the answer was given out: from the first one on, it cannot be late."""
        if self._limits and not self._has_reached_reader:
            self._has_reached_reader = True
            self._limits[0].cancel()
            self.steps.timings_ms["first_token"] = self._elapsed_ms()

    async def close(self, *, failure: str | None = None) -> None:
        """Close the endpoint's connection, or stop opening it. A second call does nothing.

        ``failure`` is a code for the span of the call.
        """
        opening, self._opening = self._opening, None
        if opening is None:
            return
        for limit in self._limits:
            limit.cancel()
        if failure is not None:
            fail_span(self._span, failure)
        if self._limits:
            self.steps.timings_ms["generate"] = self._elapsed_ms()
            self._describe()
        if not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        if not opening.cancelled():
            opening.exception()  # ``open`` has raised it
        await self._connection.aclose()
        self._span.end()

    def _elapsed_ms(self) -> float:
        return elapsed_ms(self._started_s, clock=self.services.clock)

    def _begin_span(self) -> trace.Span:
        """Begin the call's span, by the GenAI conventions. It is never current while a reader reads."""
        model = self.services.tenant.generation.model
        return self.steps.begin(
            f"chat {model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                "gen_ai.request.max_tokens": self.request.max_tokens,
                "gen_ai.request.temperature": self.request.temperature,
                "gen_ai.conversation.id": self.conversation_id,
                "gen_ai.output.type": "text",
            },
        )

    def _describe(self) -> None:
        """Put the outcome of the call into its span."""
        span = self._span
        if self.inference_id is not None:
            span.set_attribute("gen_ai.response.id", self.inference_id)
        if self.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [self.finish_reason.value])
        if self.usage is not None:
            span.set_attribute("gen_ai.usage.input_tokens", self.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", self.usage.completion_tokens)
        if self._first_chunk_ms is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", self._first_chunk_ms / 1000)
