"""Reads a message once, before the search: its questions, whether it leans on the conversation, its names.

Nothing below a reading parses the message again. *plain* needs no model: a trained head over the vector that
is computed anyway, exact keys for items and ids, the examples of live elements. *model* asks the tenant's LLM
once, where plain is weakest: prompt, schema, parse, and a fallback to plain. A reading may widen what is
found, never what is allowed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from operator import mul
from textwrap import wrap
from typing import Annotated

import orjson
import structlog
from opentelemetry.trace import SpanKind
from pydantic import Field, FiniteFloat, StringConstraints, ValidationError

from assistant.answer.prompt import fill_slots, load_prompt, neutralise, rendered
from assistant.answer.sources import SearchScope
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import QuestionKind, Reading, Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel
from assistant.stores.ports import AnswerGenerator, ChatMessage, GenerationRequest
from assistant.text.language import split_sentences

_log = structlog.get_logger(__name__)

LONG_MESSAGE_WORDS = 45
"""A longer message is searched by its questions and its most specific sentences."""
_LONG_MESSAGE_CHARACTERS = 1_000
"""The same for text with few spaces."""
_MOST_WORDS = 4 * LONG_MESSAGE_WORDS
"""What is searched of a message, so that it costs no more than four that are just not long. Sentences of more
words are searched by runs of their words."""
_MOST_RUN_CHARACTERS = 240
"""About 45 words."""
MOST_QUESTIONS = 3
_SENTENCES_KEPT = 3
_LEAST_TERMS = 2
"""Content terms of a question; one with fewer belongs to the sentence before it."""
_CODE = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was typed, with what is known of it before it is read."""

    text: str
    questions: tuple[str, ...]
    """``questions_of`` the text."""
    before: str | None
    """The question before it in its conversation."""
    vectors: Mapping[str, Sequence[float]]
    """Unit-length vectors, by text, of each question."""
    items: tuple[str, ...] = ()
    """Ids of the catalogue's items that the message names."""


def questions_of(text: str, *, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the questions of a message, at most MOST_QUESTIONS, in the agent's words; the whole message
    where it asks one. A sentence belongs to the first question mark after it."""
    sentences = [span.text for span in split_sentences(text)]
    if is_long(text):
        kept = _most_specific(sentences, vocabulary)
        if len(" ".join(kept).split()) > _MOST_WORDS or len(" ".join(kept)) > _LONG_MESSAGE_CHARACTERS:
            kept = _most_specific([run for sentence in sentences for run in _runs(sentence)], vocabulary)
        sentences = kept
    parts: list[str] = []
    begun: list[str] = []
    for sentence in sentences:
        begun.append(sentence)
        if sentence.rstrip().endswith("?") and len(vocabulary.terms(" ".join(begun))) >= _LEAST_TERMS:
            parts.append(" ".join(begun))
            begun = []
    if begun:
        rest = " ".join(begun)
        parts = [*parts[:-1], f"{parts[-1]} {rest}"] if parts else [rest]
    if len(parts) > MOST_QUESTIONS:
        parts = [*parts[: MOST_QUESTIONS - 1], " ".join(parts[MOST_QUESTIONS - 1 :])]
    if len(parts) < 2:
        return (" ".join(parts) or text,) if is_long(text) else (text,)
    return tuple(parts)


def is_long(text: str) -> bool:
    """Return whether a message is searched by parts of it."""
    return len(text.split()) > LONG_MESSAGE_WORDS or len(text) > _LONG_MESSAGE_CHARACTERS


def _runs(sentence: str) -> Iterator[str]:
    """Yield a sentence, or its runs of words where it is long."""
    words = sentence.split()
    for start in range(0, len(words), LONG_MESSAGE_WORDS):
        run = " ".join(words[start : start + LONG_MESSAGE_WORDS])
        yield from wrap(run, _MOST_RUN_CHARACTERS, break_on_hyphens=False)


def _most_specific(sentences: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Return the sentences that ask, and the heaviest others, in their order."""
    weights = [sum(term.weight for term in vocabulary.terms(text)) for text in sentences]
    order = sorted(range(len(sentences)), key=lambda at: (not sentences[at].endswith("?"), -weights[at], at))
    asking = sum(sentence.endswith("?") for sentence in sentences)
    kept = sorted(order[: max(_SENTENCES_KEPT, min(asking + 1, _SENTENCES_KEPT + 1))])
    return [sentences[at] for at in kept]


def _ids(text: str) -> Iterator[str]:
    """Yield the words with a digit: numbers and codes."""
    return (word for word in _CODE.findall(text) if any(map(str.isdigit, word)))


def numbers_of(text: str) -> tuple[str, ...]:
    """Return the numbers and codes that stand alone, each once: "10045", not the parts of "3/4/71"."""
    words = (word.strip(".,;:!?()#") for word in text.split())
    return tuple(
        dict.fromkeys(word for word in words if _CODE.fullmatch(word) and any(map(str.isdigit, word)))
    )


# The trained head


class HeadFile(PublicModel):
    """Weights of the head, fitted by ``make fit`` on the tuning halves of evaluation/."""

    embedding_model: str
    """The model whose vectors ``leans_vector`` and ``kind_vectors`` weigh."""
    leans_bias: FiniteFloat
    leans_counts: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    """Of the content terms, their weight, and the words of a question."""
    leans_vector: tuple[FiniteFloat, ...]
    kinds: tuple[QuestionKind, ...]
    kind_bias: tuple[FiniteFloat, ...]
    kind_vectors: tuple[tuple[FiniteFloat, ...], ...]
    """Shape (kinds, dimensions)."""
    fitted_on: str


@lru_cache
def shipped_head() -> HeadFile:
    """Return the head that the repository ships."""
    resource = files("assistant.answer").joinpath("weights", "reading.json")
    return HeadFile.model_validate(orjson.loads(resource.read_bytes()))


def head_counts(question: str, vocabulary: Vocabulary) -> tuple[float, float, float]:
    """Return how many content terms a question has, how specific they are, and how many words."""
    terms = vocabulary.terms(question)
    return len(terms) / 5, sum(term.weight for term in terms) / 3, len(question.split()) / 10


class PlainReading:
    """Reads messages without a model. With another embedding model than the head's, counts alone decide
    whether a question leans, and its kind is ``rule``."""

    def __init__(self, vocabulary: Vocabulary, *, embedding_model: str) -> None:
        self._vocabulary = vocabulary
        self._head = shipped_head()
        self._knows_vectors = self._head.embedding_model == embedding_model

    def run(self, message: Message) -> Reading:
        first = message.questions[0]
        leans = message.before is not None and self.leans(first, message.vectors.get(first))
        search_text = " ".join(message.questions)
        return Reading(
            questions=message.questions,
            search_text=f"{message.before}\n{search_text}" if leans else search_text,
            leans=leans,
            kind=self.kind(message.vectors.get(first)),
            items=message.items,
            ids=tuple(dict.fromkeys(_ids(message.text)))[:20],
        )

    def leans(self, question: str, vector: Sequence[float] | None) -> bool:
        """Return whether a question makes sense only after the one before it."""
        head = self._head
        counts = head_counts(question, self._vocabulary)
        score = head.leans_bias + sum(map(mul, head.leans_counts, counts))
        if vector is not None and self._knows_vectors:
            score += sum(map(mul, head.leans_vector, vector))
        return score > 0.0

    def kind(self, vector: Sequence[float] | None) -> QuestionKind:
        if vector is None or not self._knows_vectors:
            return "rule"
        scores = self._kind_scores(vector)
        return max(scores, key=scores.__getitem__)

    def live_score(self, vector: Sequence[float]) -> float | None:
        """Return the log-odds that a question asks for live data; None for vectors of another model."""
        return self._kind_scores(vector)["live"] if self._knows_vectors else None

    def _kind_scores(self, vector: Sequence[float]) -> dict[QuestionKind, float]:
        head = self._head
        rows = zip(head.kinds, head.kind_bias, head.kind_vectors, strict=True)
        return {kind: bias + sum(map(mul, weights, vector)) for kind, bias, weights in rows}


# The reading by a model, of a message that is long, asks several questions or leans on the question before.
# It says what is searched. Items and ids stay those of the plain reading, and a reply with a number or code
# that stands neither in the message nor in the question before it is not used


READING_LIMIT_S = 2.0
"""Of the whole call: the search waits for it."""
MOST_REPLY_CHARACTERS = 2_400
"""Of the reply that is read; the rest of the stream is left."""
_PROMPT = "reading/1"
_MAX_TOKENS = 400
_WORD = re.compile(r"[^\W_]+(?:[-.,:/][^\W_]+)*")
_JOINT = re.compile(r"[-.,:/]")

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]


class ReadingReply(PublicModel):
    """The reading of one message."""

    questions: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=MOST_QUESTIONS)]
    search_text: _Text
    leans: bool
    kind: QuestionKind


class AddedValueError(ValueError):
    """The reply has a number or code that the model was not given."""


class ModelReading:
    """Reads messages with a model; as the plain reading does where the model is not needed, or fails."""

    def __init__(self, generator: AnswerGenerator, *, plain: PlainReading, system_role: bool = True) -> None:
        """``system_role``: whether the model's chat template takes a system message."""
        self._generator = generator
        self._system_role = system_role
        self._plain = plain

    async def run(self, message: Message, scope: SearchScope) -> Reading:
        """Return how the message was read, within the scope's deadline. Raises nothing: a step that was late
        or unavailable is noted in ``scope.degraded``."""
        plain = self._plain.run(message)
        if not (is_long(message.text) or len(message.questions) > 1 or plain.leans):
            return plain
        try:
            with scope.steps.step("reading", kind=SpanKind.CLIENT):
                reply = _parsed(await self._replied(message, scope.deadline), message)
        except (ValidationError, AddedValueError) as error:
            _log.warning("reading_unusable", error=type(error).__name__)
            return plain
        except (AssistantError, TimeoutError) as error:
            scope.degraded.append("reading")  # the same message may be read otherwise the next time
            _log.warning("reading_failed", error=type(error).__name__)
            return plain
        leans = reply.leans and message.before is not None
        return plain.model_copy(update={**dict(reply), "leans": leans, "made_by": "model"})

    async def _replied(self, message: Message, deadline: Deadline) -> str:
        """Return the first MOST_REPLY_CHARACTERS of the reply. Raises AssistantError, TimeoutError."""
        messages = rendered(reading_prompt(message), system_role=self._system_role)
        request = GenerationRequest(messages, max_tokens=_MAX_TOKENS, temperature=0.0)
        reply, _ = await text_within(
            READING_LIMIT_S, self._generator, request, deadline=deadline, most=MOST_REPLY_CHARACTERS
        )
        return reply


async def text_within(
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


def reading_prompt(message: Message) -> tuple[ChatMessage, ...]:
    """Return the prompt, with message and question before it between delimiters that they cannot close."""
    before = "" if message.before is None else f"<before>\n{neutralise(message.before)}\n</before>\n\n"
    slots = {"before": before, "message": neutralise(message.text)}
    return ChatMessage("system", _system()), ChatMessage("user", fill_slots(load_prompt(_PROMPT), slots))


@lru_cache
def _system() -> str:
    schema = orjson.dumps(ReadingReply.model_json_schema()).decode()
    return load_prompt(_PROMPT).system.replace("{{schema}}", schema)


def _parsed(reply: str, message: Message) -> ReadingReply:
    """Return the JSON object of a reply, without what stands around it.

    Raises ValidationError, AddedValueError.
    """
    parsed = ReadingReply.model_validate_json(reply[reply.find("{") : reply.rfind("}") + 1])
    given = {value for text in (message.text, message.before or "") for value in _values(text)}
    if not given.issuperset(_values("\n".join((*parsed.questions, parsed.search_text)))):
        raise AddedValueError
    return parsed


def _values(text: str) -> Iterator[str]:
    """Yield the numbers and codes of a text: "7.5", "4711-2", "a5". "30-day" is the number 30."""
    for word in _WORD.findall(text.casefold()):
        parts = [part for part in _JOINT.split(word) if any(map(str.isdigit, part))]
        if parts:
            yield parts[0] if len(parts) == 1 else word
