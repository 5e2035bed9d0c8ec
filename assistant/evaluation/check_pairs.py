"""Planted errors and true sentences by which a model that checks sentences is judged.

They are in ``check_pairs.toml``; ``CheckCounts.is_believed`` has the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assistant.answer.ask_json import AsksModel
from assistant.answer.check_model import CheckByModel, Claim, SourceLine
from assistant.answer.conversation import Conversation, Turn
from assistant.answer.services import AnswerWriter
from assistant.domain.clock import Clock, Deadline
from assistant.tenant.manifests import CheckCounts
from assistant.tenant.toml_file import StrictModel, read_strict

_LIMIT_S = 300.0
"""Limit of one call. A model that takes longer cannot serve agents."""


class PairDocument(StrictModel):
    """A part of a made-up document."""

    title: str
    heading: str
    lines: tuple[str, ...]


class Sentence(StrictModel):
    """A sentence of an answer, and what was planted in it."""

    text: str
    lines: tuple[int, ...] = ()
    """Lines that it cites, counted from 1 over the answer's documents; empty: none."""
    planted: str = ""
    """The kind of the error: "negation"; empty for a true sentence."""


class WrittenAnswer(StrictModel):
    """The sentences of one call, as an answer to a customer's message has them."""

    message: str
    documents: tuple[PairDocument, ...]
    sentences: tuple[Sentence, ...]


class CheckPairs(StrictModel):
    """``check_pairs.toml``."""

    company: str
    answers: tuple[WrittenAnswer, ...]


@dataclass(frozen=True, slots=True)
class ModelAlone:
    """An ``AsksModel`` without a tenant."""

    writer: AnswerWriter
    context_tokens: int


def load_check_pairs() -> CheckPairs:
    """Return the shipped pairs."""
    return read_strict(Path(__file__).with_suffix(".toml"), CheckPairs)


async def ask_pairs(
    model: AsksModel,
    pairs: CheckPairs,
    *,
    clock: Clock,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> CheckCounts:
    """Let the model check the sentences of each answer in one call, as the product does. A call without
    usable verdicts names and marks nothing. ``show`` is called with the sentences so far, and with all."""
    check, counter = CheckByModel(model), model.writer.token_counter
    sentences = [sentence for answer in pairs.answers for sentence in answer.sentences]
    seen: list[str] = []
    """Kinds of the sentences that were not held; "" for a true one."""
    done = 0
    for answer in pairs.answers:
        show(done, len(sentences))
        done += len(answer.sentences)
        told = await check.run(
            [Claim(each.text, tuple(n - 1 for n in each.lines)) for each in answer.sentences],
            [SourceLine(each.title, each.heading, line) for each in answer.documents for line in each.lines],
            conversation=Conversation((Turn("customer", answer.message),)).block(
                company=pairs.company,
                today=None,
                meanings={},
                days=(),
                count=counter.count,
                most_tokens=model.context_tokens,
            ),
            deadline=Deadline.after(_LIMIT_S, clock=clock),
        )
        verdicts = zip(answer.sentences, told.value.sentences, strict=True) if told else ()
        seen += [sentence.planted for sentence, verdict in verdicts if verdict.verdict != "held"]
    planted = sum(bool(sentence.planted) for sentence in sentences)
    return CheckCounts(
        named=sum(map(bool, seen)),
        planted=planted,
        marked=seen.count(""),
        true_pairs=len(sentences) - planted,
    )
