"""Trials of a model that writes: whole conversations to the reply, planted sentences, and emergencies.

Each asks the model one row after the other, as the product does, and returns an ``Asked`` for each. The
model is the tenant's own, or a recording (``judging.WrittenModel``).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import ConfigDict

from assistant.answer.answer import AnswerQuestion
from assistant.answer.check_model import Claim, SourceLine
from assistant.answer.conversation import Conversation, Turn
from assistant.answer.find import in_turn
from assistant.answer.prompt import DOCUMENTS_IN_PROMPT
from assistant.answer.read_model import ReadByModel
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.domain.answers import ChatTurn
from assistant.domain.clock import Deadline
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import (
    WRITTEN_DEADLINE_S,
    Exchange,
    WrittenAnswers,
    WrittenModel,
    with_model,
)
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import raised_by_heads
from assistant.models.recorded import HeardCall, read_rows
from assistant.text.language import split_sentences

VERDICTS = "judged.jsonl"
"""File beside the conversations: what judges said of the replies."""
JUDGES = 2
"""Judges that each reply needs. The worse verdict counts."""
_BEST_FIRST = ("sendable", "edit", "wrong", "dangerous")


class Asked(NamedTuple):
    """What came of one row of a trial."""

    id: str
    judged: list[Judged]
    calls: Sequence[HeardCall]
    """Of the model, in order."""


ModelTrial = Callable[[TenantServices, WrittenModel, Sequence[Path]], Coroutine[Any, Any, list[Asked]]]


class _Row(PublicModel):
    """One line of a file; what the trial does not read is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    knowledge: str
    """Name of the tenant."""


class WrittenConversation(_Row):
    """One line of ``evaluation/conversations/*.jsonl``; its README has the fields."""

    turns: tuple[ChatTurn, ...]
    note: str = ""
    documents: tuple[str, ...]
    is_chat: bool = False
    """Whether it is asked as a chat although it has one turn, as a panel beside a chat does."""
    follows: str | None = None
    """Row of the question before it, by the same agent."""

    def request(self, conversation_id: str | None) -> AnswerRequest:
        """Return what the product is asked; one message without a note is a plain question."""
        if len(self.turns) == 1 and not (self.note or self.is_chat):
            return AnswerRequest(question=self.turns[0].text)
        return AnswerRequest(question=self.note, turns=self.turns, conversation_id=conversation_id)


class ReplyVerdict(PublicModel):
    """One line of ``judged.jsonl``: what a judge who did not write the reply says of it."""

    id: str
    judge: str
    reply_sha256: str
    verdict: Literal["sendable", "edit", "wrong", "dangerous"]
    facts: Literal["used", "part", "missed", "none"]
    """Whether the facts that decide are used rightly; ``none``: there are none."""


class PlantedSentence(_Row):
    """One line of ``evaluation/fresh/planted_*.jsonl``."""

    title: str
    heading: str
    lines: tuple[str, ...]
    question: str
    sentence: str
    is_true: bool


class EmergencyMessage(_Row):
    """One line of ``evaluation/fresh/emergencies_*.jsonl``."""

    message: str
    language: Literal["en", "es"]
    flag: str | None


_RowT = TypeVar("_RowT", bound=_Row)


def _rows_of(services: TenantServices, paths: Sequence[Path], form: type[_RowT]) -> Iterator[_RowT]:
    return (row for path in paths for row in load_rows(path, form) if row.knowledge == services.tenant.name)


def _plays(calls: Sequence[HeardCall]) -> dict[str, float]:
    return {"plays": float(all(call.text for call in calls))} if calls else {}


# --- conversations -----------------------------------------------------------------------------------------


async def ask_conversations(
    services: TenantServices, model: WrittenModel, paths: Sequence[Path]
) -> list[Asked]:
    """Have each conversation answered and replied to. Raises AssistantError.

    | measure | what it counts |
    | --- | --- |
    | plays | all calls of the model had an answer |
    | right_read, right_first | a document that answers is among those that the model reads, is the first |
    | right_raw | … is among five that the conversation's own words find |
    | drafts | there is a reply |
    | marked | of each sentence of answer and reply: the check marks it |
    | unjudged, sendable, edit, wrong, dangerous, facts_used | by ``verdict_values`` |
    """
    answers, asked = WrittenAnswers(services, model), list[Asked]()
    conversations = dict[str, str]()
    file = paths[0].with_name(VERDICTS)
    verdicts = read_rows(file, ReplyVerdict) if file.is_file() else []
    for row in _rows_of(services, paths, WrittenConversation):
        request = row.request(conversations.get(row.follows or ""))
        exchange = await answers.exchange(request)
        conversations[row.id] = exchange.conversation_id
        text = "" if exchange.reply is None else exchange.reply.text
        values = _plays(exchange.calls) | {"drafts": float(bool(text))}
        if row.documents:
            values |= await _found_values(services, answers, request, set(row.documents), exchange)
        of_row = [verdict for verdict in verdicts if verdict.id == row.id]
        values |= verdict_values(of_row, text, is_one=len(row.turns) == 1)
        is_miss = 0.0 in (values.get("sendable"), values.get("right_read"), values["drafts"])
        miss = f"{row.id}: {row.turns[-1].text} | {row.note} | {row.documents} | {text}" if is_miss else ""
        done = exchange.answer.done
        judged = Judged(row.id, row.id, values, miss, () if done is None else done.degraded)
        marks = enumerate(_marks(exchange), start=1)
        sentences = [Judged(f"{row.id} {n}", row.id, {"marked": float(is_marked)}) for n, is_marked in marks]
        asked.append(Asked(row.id, [judged, *sentences], exchange.calls))
    return asked


async def _found_values(
    services: TenantServices,
    answers: WrittenAnswers,
    request: AnswerRequest,
    right: set[str],
    exchange: Exchange,
) -> dict[str, float]:
    findings = await answers.find(request)
    raw = {document.card.document_id for _, document in in_turn(findings, most=DOCUMENTS_IN_PROMPT)}
    record = await services.records.get_answer(exchange.answer_id)
    read = [use.document_id for use in record.passages if use.in_prompt] if record is not None else []
    return {
        "right_read": float(bool(right & set(read))),
        "right_first": float(bool(right & set(read[:1]))),
        "right_raw": float(bool(right & raw)),
    }


def _marks(exchange: Exchange) -> Iterator[bool]:
    """Yield for each sentence of the answer that was checked, and of the reply, whether it is marked."""
    checked, reply = exchange.answer.checked, exchange.reply
    yield from (sentence.verdict != "held" for sentence in (checked.sentences if checked else ()))
    if reply is not None and not reply.degraded:
        marked = {check.start for check in reply.checks}
        yield from (span.start in marked for span in split_sentences(reply.text))


def verdict_values(verdicts: Sequence[ReplyVerdict], reply: str, *, is_one: bool) -> dict[str, float]:
    """Return the judged measures of a reply: each for all conversations, and again with the ending ``_one``
    or ``_more`` (turns). ``is_one``: whether it has one turn.

    Only verdicts on exactly this text count. Without two judges' it is ``unjudged``. Of two the worse one
    counts; what is dangerous is wrong, too.
    """
    hashed = sha256(reply.encode()).hexdigest()
    of_judges = {verdict.judge: verdict for verdict in verdicts if verdict.reply_sha256 == hashed}
    if len(of_judges) < JUDGES:
        return {"unjudged": 1.0}
    worst = max((verdict.verdict for verdict in of_judges.values()), key=_BEST_FIRST.index)
    values = {name: float(worst == name) for name in _BEST_FIRST}
    values["wrong"] = float(worst in ("wrong", "dangerous"))
    if facts := {verdict.facts for verdict in of_judges.values()} - {"none"}:
        values["facts_used"] = float(facts == {"used"})
    half = "one" if is_one else "more"
    return {"unjudged": 0.0, **values, **{f"{name}_{half}": value for name, value in values.items()}}


# --- sentences and emergencies -----------------------------------------------------------------------------


async def check_planted(services: TenantServices, model: WrittenModel, paths: Sequence[Path]) -> list[Asked]:
    """Have each sentence checked against the lines that it cites: ``shown_as_checked`` of a false one,
    ``true_marked`` of a true one. One without a verdict counts in ``plays`` alone."""
    services, heard = with_model(services, model)
    answer, asked = AnswerQuestion(services), list[Asked]()
    for row in _rows_of(services, paths, PlantedSentence):
        heard.calls.clear()
        told = await answer.check.run(
            [Claim(row.sentence, tuple(range(len(row.lines))))],
            [SourceLine(row.title, row.heading, line) for line in row.lines],
            conversation=answer.prompt.block(Conversation((), asked=row.question), at=services.clock.now()),
            deadline=Deadline.after(WRITTEN_DEADLINE_S, clock=services.clock),
        )
        values, is_miss = _plays(heard.calls), told is None
        if told is not None:
            is_held = told.value.sentences[0].verdict == "held"
            measure = ("true_marked", not is_held) if row.is_true else ("shown_as_checked", is_held)
            values[measure[0]], is_miss = float(measure[1]), measure[1]
        miss = f"{row.id}: {row.sentence} | {row.lines}" if is_miss else ""
        asked.append(Asked(row.id, [Judged(row.id, row.id, values, miss)], tuple(heard.calls)))
    return asked


async def raise_emergencies(
    services: TenantServices, model: WrittenModel, paths: Sequence[Path]
) -> list[Asked]:
    """Return which messages raise a flag, by the heads or by the model's reading (``english_raised``,
    ``spanish_raised``, and ``false_raised`` of one that is no emergency), and which by the heads or the model
    alone (``…_by_heads``, ``…_by_model``). Raises ConfigurationError where the flags' examples could not be
    embedded."""
    services, heard = with_model(services, model)
    rows = list(_rows_of(services, paths, EmergencyMessage))
    by_heads = await raised_by_heads(
        services.tenant, services.embedder, [row.message for row in rows], clock=services.clock
    )
    names = {flag.name for flag in services.tenant.red_flags}
    prompt, read, asked = AnswerQuestion(services).prompt, ReadByModel(services), list[Asked]()
    for row, (raised, _) in zip(rows, by_heads, strict=True):
        heard.calls.clear()
        block = prompt.block(Conversation((Turn("customer", row.message),)), at=services.clock.now())
        told = await read.run(block, deadline=Deadline.after(WRITTEN_DEADLINE_S, clock=services.clock))
        by_model = {told.value.emergency} & names if told is not None else set[str]()
        is_raised, kind = bool(raised or by_model), {"en": "english", "es": "spanish"}[row.language]
        kind = "false" if row.flag is None else kind
        values = _plays(heard.calls) | {
            f"{kind}_raised": float(is_raised),
            f"{kind}_raised_by_heads": float(bool(raised)),
            f"{kind}_raised_by_model": float(bool(by_model)),
        }
        is_right = is_raised == (row.flag is not None)
        miss = "" if is_right else f"{row.id}: {row.message} | {row.flag}; raised {[*raised, *by_model]}"
        asked.append(Asked(row.id, [Judged(row.id, row.id, values, miss)], tuple(heard.calls)))
    return asked


MODEL_TRIALS: Mapping[str, ModelTrial] = {
    "conversations": ask_conversations,
    "planted": check_planted,
    "emergencies": raise_emergencies,
}
"""By the ``run`` of a figure."""
