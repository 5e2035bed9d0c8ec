"""Compares models that write by the same questions, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assistant.answer.services import AnswerWriter, TenantServices
from assistant.domain.clock import Clock
from assistant.evaluation.judging import HeardCall, Written, WrittenAnswers, WrittenModel
from assistant.evaluation.measures import Estimate, Judged, figures
from assistant.evaluation.questions import EvaluationQuestion
from assistant.tenant.added_models import ServedLlm

MEASURES: Mapping[str, str] = {
    "right": "right, of the answerable",
    "refused": "refused, of the answerable",
    "refused_rightly": "refused, of the unanswerable",
    "withheld": "answers with a withheld sentence",
    "failed": "failed, or no text in the tenant's limit",
    "first_token_s": "first token, mean, s",
    "tokens_per_s": "tokens a second",
    "usd_per_1000": "USD per 1,000 answers, one at a time",
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One model of a comparison. ``services`` are the tenant's, with its context and tokenizer."""

    name: str
    model: WrittenModel
    services: TenantServices
    usd_per_hour: float | None = None
    """Price of the instance that serves it."""

    @classmethod
    def served(cls, name: str, model: ServedLlm, writer: AnswerWriter, services: TenantServices) -> Contender:
        """``writer``: what calls the model, and counts its tokens."""
        update = {"model": model.name, "context_tokens": model.context_tokens}
        generation = services.tenant.generation.model_copy(update=update)
        tenant = services.tenant.model_copy(update={"generation": generation})
        written = WrittenModel(writer.generator, writer.token_counter, model.origin, {})
        return cls(name, written, replace(services, tenant=tenant, writer=writer))


@dataclass(slots=True)
class Compared:
    """What came of one model so far."""

    name: str
    answers: list[Judged] = field(default_factory=list[Judged])

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Each measure's mean with its interval, 95 of 100 resamples by document."""
        return figures(self.answers)


async def compare(
    contenders: Sequence[Contender],
    questions: Sequence[EvaluationQuestion],
    *,
    earlier: Mapping[str, str],
    clock: Clock,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Compared]:
    """Ask each question of each model.

    ``earlier``: texts of the questions that follow-ups lean on, by ``qid``. Raises AssistantError.
    """
    writers = [WrittenAnswers(replace(each.services, clock=clock), each.model) for each in contenders]
    results = [Compared(each.name) for each in contenders]
    for done, question in enumerate(questions):
        show(done, len(questions))
        for contender, writer, result in zip(contenders, writers, results, strict=True):
            written = await writer.ask(question, before=earlier.get(question.after or ""))
            values = _values(question, written, failed=written.call is not None and written.call.failed)
            if contender.model.is_live and written.call is not None:
                values |= _speed(written.call, contender.usd_per_hour)
            result.answers.append(Judged(question.qid, question.document, values))
    return results


def _values(question: EvaluationQuestion, written: Written, *, failed: bool) -> dict[str, float]:
    """Return the values of one answer, by measure. A quote in place of the text is no right answer."""
    values = {"failed": float(failed), "withheld": written.values["written_withheld"]}
    if question.answerable:
        values["right"] = written.values["written_right"] * written.is_written
        values["refused"] = written.values["written_refused"]
    else:
        values["refused_rightly"] = written.values["written_rightly_refused"]
    return values


def _speed(timed: HeardCall, usd_per_hour: float | None) -> dict[str, float]:
    """Return times and cost of a call that gave text, by measure."""
    if timed.first_s is None:
        return {}
    values = {"first_token_s": timed.first_s}
    if timed.tokens > 1 and timed.seconds > timed.first_s:
        values["tokens_per_s"] = (timed.tokens - 1) / (timed.seconds - timed.first_s)
    if usd_per_hour is not None:
        values["usd_per_1000"] = 1000 * usd_per_hour * timed.seconds / 3600
    return values


def comparison_rows(results: Sequence[Compared]) -> list[tuple[str, ...]]:
    """Return a row for each measure: its title, and of each model value, interval and number of questions."""
    found = [each.estimates for each in results]
    return [
        (title, *(_cell(estimates.get(name)) for estimates in found))
        for name, title in MEASURES.items()
        if any(name in estimates for estimates in found)
    ]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}] of {estimate.questions}"
