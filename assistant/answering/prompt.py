"""Builds prompts from versioned files, counted with the served model's own tokenizer.

A prompt file is immutable once released: its SHA-256 is in every answer's record. It is Markdown with the
sections ``# system`` and ``# user`` and, for models that can follow it, ``# refusal``: what the model answers
when the passages do not contain the answer. The user section has the slots ``{{passages}}`` and
``{{question}}``. There is no template engine: the file is split at its slots before untrusted text is added.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

from assistant.answering.excerpts import remember_texts
from assistant.answering.ports import ChatMessage
from assistant.answering.services import TenantServices
from assistant.domain.answers import AnswerRecord, FinishReason
from assistant.domain.documents import Passage
from assistant.domain.errors import ConfigurationError, TooLargeError

_PROMPT_ID = re.compile(r"[a-z][a-z_]*/[1-9][0-9]*")
_SECTION = re.compile(r"^# (system|user|refusal)\n", re.MULTILINE)
_SLOT = re.compile(r"\{\{(passages|question)\}\}")
# Tags of chat templates and our own delimiters: "<|im_start|>", "</passage>", "<s>", "[INST]".
_TAG_OPENING = re.compile(r"<(?=[A-Za-z/|!?<])")
_BRACKET_TAG = re.compile(r"\[(/?[A-Z_]{3,})\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COUNTS_KEPT = 2_000
"""Token counts that are cached by their text: about 4 MiB."""
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


class PromptBuilder:
    """Builds prompts that fit the served model's context. Questions and passages are never cut."""

    def __init__(self, services: TenantServices) -> None:
        self._counter = services.token_counter
        self._tokens_of = remember_texts(_COUNTS_KEPT)(self._counter.count)
        self._model = services.model
        self._context_tokens = services.tenant.generation.context_tokens
        self._template = load_prompt(services.model.prompt)
        self._system = ChatMessage("system", self._template.system)

    @cached_property
    def _system_tokens(self) -> int:
        """Tokens of the system message, which is the same in every prompt."""
        return self._count(self._system)

    def build(
        self,
        question: str,
        *,
        passages: Sequence[Passage],
        history: Sequence[AnswerRecord],
        max_tokens: int,
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
            parts = self._user_parts(asked, passages[:read])
            user = ChatMessage("user", "".join(parts))
            tokens = self._system_tokens + self._count_parts(parts, asked)
            if tokens + _TOKENS_A_BORDER * len(parts) > budget:
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
        )

    def _user_parts(self, asked: str, passages: Sequence[Passage]) -> list[str]:
        """Return the user message in parts: the template's own text, each passage, the question."""
        quoted = [quote_passage(passage) for passage in passages]
        slots = {
            "passages": [f"{text}\n\n" for text in quoted[:-1]] + quoted[-1:],
            "question": [asked],
        }
        parts = enumerate(self._template.user)
        return [text for place, part in parts for text in (slots[part] if place % 2 else [part])]

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


def quote_passage(passage: Passage) -> str:
    """Return the passage between delimiters that its text cannot close."""
    return f"<passage>\n{neutralise(passage.embedding_input)}\n</passage>"


def neutralise(text: str) -> str:
    """Return untrusted text without anything that a chat template or our delimiters treat as a tag.

    The opening bracket of a tag becomes a look-alike, so the text reads as before.
    """
    text = _CONTROL.sub(" ", text)
    text = _TAG_OPENING.sub("\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", text)
    return _BRACKET_TAG.sub(r"(\1)", text)
