"""Twenty questions to a model that is to write answers, and how fast it reads.

A model may write when it cites the units that it was given, copies their numbers, and refuses what they do
not hold. The bound is in ``model_questions.toml``, beside the questions.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from assistant.answer.prompt import rendered
from assistant.domain.clock import Clock, Deadline
from assistant.models.recorded import HeardCall, HeardModel
from assistant.stores.ports import AnswerGenerator, ChatMessage, GenerationRequest
from assistant.tenant.toml_file import StrictModel, read_strict

REFUSAL = "The documents do not answer this question."
_RULES = (
    "You answer questions of customer-care agents. Use only the units of the documents below. Units are "
    "numbered [1.1], [1.2] and so on. Cite each sentence with the number in brackets. Copy numbers, doses "
    f"and codes exactly. When the documents do not hold the answer, reply with exactly: {REFUSAL}"
)
_MARKER = re.compile(r"\[(\d+\.\d+)\]")
"""A citation: "[1.2]" cites unit "1.2"."""
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
"""A number as it is written: "250", "4.90", "7:30"."""
_AROUND = " \n.\"'*"
"""Characters around a refusal that do not count."""
_ANSWER_TOKENS = 256
"""The default of ``[generation] max_tokens`` in a tenant file."""
_ANSWER_LIMIT_S = 300.0
"""Limit of one answer. A model that takes longer cannot serve agents."""
_READING_S = 3.0
"""How long an agent may wait for a prompt to be read."""
_READING_ROUNDS = 3
"""Requests of one size, of which the median counts."""
_SENTENCE = "The depot counts its parcels each evening and writes the sum into the book. "
"""Fills prompts whose length is chosen."""
_SHORT_SENTENCES = 12
_LONG_SENTENCES = 80
"""Lengths of the two prompts that are timed: some 170 and 1,100 tokens."""
_SENTENCE_TOKENS = 14
"""Tokens of ``_SENTENCE`` for most tokenizers."""


class ModelQuestion(StrictModel):
    """A question about one of the documents, with the answer's citation and numbers."""

    document: str
    """A key of ``ModelQuestions.documents``."""
    question: str
    units: tuple[str, ...] = ()
    """Numbers of the units that answer it, such as "1.2"; empty where the document does not."""
    holds: tuple[str, ...] = ()
    """Numbers that the answer must have, such as "21"."""


class Bound(StrictModel):
    """The least counts with which a model may write; see ``Counts``."""

    cites: int
    copies: int
    refuses: int


class ModelQuestions(StrictModel):
    """``model_questions.toml``."""

    bound: Bound
    documents: Mapping[str, str]
    """Name = text, a unit a line."""
    questions: tuple[ModelQuestion, ...]


def load_model_questions() -> ModelQuestions:
    """Return the shipped questions."""
    return read_strict(Path(__file__).with_suffix(".toml"), ModelQuestions)


def probe_messages(question: str, document_text: str) -> tuple[ChatMessage, ...]:
    """Return the messages that ask ``question`` over one document, whose lines are its units.

    They number the units "[1.1]", "[1.2]", …, as ``ModelQuestion.units`` names them.
    """
    lines = document_text.strip().splitlines()
    units = "\n".join(f"[1.{number}] {line}" for number, line in enumerate(lines, start=1))
    return ChatMessage("system", _RULES), ChatMessage("user", f"{units}\n\nQuestion: {question}")


@dataclass(frozen=True, slots=True)
class Counts:
    """How a model answered the questions: ``str`` of it tells a person."""

    cites: int
    """Answers that cite exactly the right units, of ``answerable``."""
    copies: int
    """Answers with the right numbers and no others, of ``answerable``."""
    answerable: int
    refuses: int
    """Answers that are the refusal alone, of ``unanswerable``."""
    unanswerable: int
    bound: Bound

    @property
    def may_write(self) -> bool:
        bound = self.bound
        return self.cites >= bound.cites and self.copies >= bound.copies and self.refuses >= bound.refuses

    def __str__(self) -> str:
        return (
            f"cites the right unit in {self.cites} of {self.answerable} answers, copies numbers exactly in "
            f"{self.copies} of {self.answerable}, refuses {self.refuses} of {self.unanswerable} questions "
            f"that its document does not answer (needed: {self.bound.cites}, {self.bound.copies} and "
            f"{self.bound.refuses})"
        )


async def ask_model(
    generator: AnswerGenerator,
    shipped: ModelQuestions,
    *,
    clock: Clock,
    system_role: bool = True,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> Counts:
    """Ask every question, one after the other at temperature 0. Raises as the generator does.

    ``system_role``: whether the model's chat template takes a system message. ``show`` is called before each
    question, with the number of answers so far and the number of questions.
    """
    answers: list[str] = []
    for question in shipped.questions:
        show(len(answers), len(shipped.questions))
        probe = probe_messages(question.question, shipped.documents[question.document])
        messages = rendered(probe, system_role=system_role)
        answers.append((await _asked(generator, messages, max_tokens=_ANSWER_TOKENS, clock=clock)).text)
    return count_answers(shipped, answers)


def count_answers(shipped: ModelQuestions, answers: Sequence[str]) -> Counts:
    """Return how many of the answers, one a question, cite, copy and refuse as they must."""
    pairs = list(zip(shipped.questions, answers, strict=True))
    answered = [(question, text) for question, text in pairs if question.units]
    return Counts(
        cites=sum(set(_MARKER.findall(text)) == set(question.units) for question, text in answered),
        copies=sum(
            _copies(question, text, shipped.documents[question.document]) for question, text in answered
        ),
        answerable=len(answered),
        refuses=sum(_refuses(text) for question, text in pairs if not question.units),
        unanswerable=len(pairs) - len(answered),
        bound=shipped.bound,
    )


def _copies(question: ModelQuestion, answer: str, document: str) -> bool:
    """Return whether the answer has the numbers that it must, and none that its document does not have."""
    numbers = set(_NUMBER.findall(_MARKER.sub("", answer)))
    return numbers.issuperset(question.holds) and numbers.issubset(_NUMBER.findall(document))


def _refuses(answer: str) -> bool:
    """Return whether the answer is the refusal alone; quotes and emphasis around it do not count."""
    return answer.strip(_AROUND).casefold() == REFUSAL.strip(_AROUND).casefold()


async def measure_reading(generator: AnswerGenerator, *, context_tokens: int, clock: Clock) -> int | None:
    """Return how many prompt tokens the model reads in 3 s; None if unknown, or if its whole context is read.

    A line through two points, the times to the first token of a short and of a long prompt, each the median
    of three. Each prompt begins with other words, so that no server has it in a cache. Example: 170 tokens
    in 0.4 s and 1,100 in 2.0 s give 1,681. Raises as the generator does.
    """
    longest = (context_tokens // 2) // _SENTENCE_TOKENS
    lengths = (min(_SHORT_SENTENCES, longest // 4), min(_LONG_SENTENCES, longest))
    (few, short_s), (many, long_s) = [await _reading(generator, length, clock=clock) for length in lengths]
    # The server counts no tokens, or reads faster than can be measured.
    if many <= few or long_s <= short_s:
        return None
    tokens = many + (_READING_S - long_s) * (many - few) / (long_s - short_s)
    return None if tokens >= context_tokens else max(1, math.floor(tokens))


async def _reading(generator: AnswerGenerator, sentences: int, *, clock: Clock) -> tuple[int, float]:
    """Time a prompt of so many sentences. Return its tokens, and the seconds to the answer's first token."""
    calls: list[HeardCall] = []
    for _ in range(_READING_ROUNDS):
        content = f"{uuid.uuid4().hex} {_SENTENCE * sentences}\nWhat does the depot count?"
        calls.append(await _asked(generator, (ChatMessage("user", content),), max_tokens=1, clock=clock))
    # An answer of one token may have no text.
    times_s = (call.seconds if call.first_s is None else call.first_s for call in calls)
    return calls[0].prompt_tokens or _SENTENCE_TOKENS * sentences, median(times_s)


async def _asked(
    generator: AnswerGenerator, messages: tuple[ChatMessage, ...], *, max_tokens: int, clock: Clock
) -> HeardCall:
    """Return the call when the model's text has ended. Raises as the generator does."""
    heard = HeardModel(generator, clock)
    request = GenerationRequest(messages, max_tokens=max_tokens, temperature=0.0, seed=1)
    async with heard.stream(request, deadline=Deadline.after(_ANSWER_LIMIT_S, clock=clock)) as stream:
        async for _ in stream:
            pass
    return heard.calls[0]
