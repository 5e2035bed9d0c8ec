"""Compares models that write by the same questions: one page with plots; a hopeless one is stopped early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from math import comb

from assistant.answering.ports import AnswerGenerator, GenerationDelta, GenerationRequest, GenerationStream
from assistant.answering.services import AnswerWriter, TenantServices
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import AssistantError
from assistant.evaluation.judging import WrittenAnswers, WrittenModel
from assistant.evaluation.measures import Estimate, estimate
from assistant.evaluation.questions import EvaluationQuestion, WrittenResult
from assistant.evaluation.report import template_page
from assistant.recorded_model import RecordedAnswer
from assistant.settings.local_models import ServedLlm

WRONGLY_STOPPED = 0.05
"""Probability that any model which is as good as the first one is stopped."""
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
SHARES = ("right", "refused", "refused_rightly", "withheld", "failed")


@dataclass(frozen=True, slots=True)
class Contender:
    """One model of a comparison. ``services`` are the tenant's, with its context and tokenizer."""

    name: str
    model: WrittenModel
    services: TenantServices
    usd_per_hour: float | None = None
    """Of the instance that serves it."""

    @classmethod
    def recorded(cls, name: str, lines: Sequence[RecordedAnswer], services: TenantServices) -> Contender:
        return cls(name, WrittenModel.of_recording(lines), services)

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
    origin: str
    values: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Question = measure = value."""
    wins: int = 0
    losses: int = 0
    """Questions that only it, or only the first model, answered well."""
    stopped: bool = False

    def estimates(self, clusters: Mapping[str, str]) -> dict[str, Estimate]:
        """Return each measure's mean with its interval, 95 of 100 resamples by document."""
        found = {
            name: estimate({qid: each[name] for qid, each in self.values.items() if name in each}, clusters)
            for name in MEASURES
        }
        return {name: one for name, one in found.items() if one is not None}


def evidence_against(wins: int, losses: int) -> float:
    """Return the e-value against "it answers well at least as often as the first", of the questions that only
    one of the two answered well.

    The likelihood of the wins, averaged over all shares of wins below one half alike, by that at one half.
    While the share is one half or more this is a nonnegative supermartingale from 1, so it ever reaches x
    with probability 1/x at most (Ville's inequality): one may look after each answer. Robbins, "Statistical
    methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 41 (1970); Ramdas
    et al., "Game-theoretic statistics and safe anytime-valid inference", arXiv:2210.01948.
    """
    number = wins + losses
    return sum(comb(number + 1, more) for more in range(wins + 1, number + 2)) / (
        (number + 1) * comb(number, wins)
    )


async def compare(
    contenders: Sequence[Contender],
    questions: Sequence[EvaluationQuestion],
    *,
    earlier: Mapping[str, str],
    clock: Clock,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Compared]:
    """Ask each question of each model that is not stopped; the first is never stopped.

    ``earlier``: texts of the questions that follow-ups lean on, by ``qid``. Raises AssistantError.
    """
    timed = [_Timed(each.model.generator, clock) for each in contenders]
    writers = [
        WrittenAnswers(each.services, replace(each.model, generator=generator))
        for each, generator in zip(contenders, timed, strict=True)
    ]
    results = [Compared(each.name, each.model.name) for each in contenders]
    enough = (len(contenders) - 1) / WRONGLY_STOPPED
    for done, question in enumerate(questions):
        show(done, len(questions))
        well: list[bool] = []
        for contender, generator, writer, result in zip(contenders, timed, writers, results, strict=True):
            if result.stopped:
                continue
            generator.start()
            written, _ = await writer.ask(question, before=earlier.get(question.after or ""))
            values = _values(question, written, failed=generator.failed)
            if not contender.model.recorded:
                values |= _speed(generator, contender.usd_per_hour)
            result.values[question.qid] = values
            well.append(values["right"] > 0 if question.answerable else values["refused_rightly"] > 0)
            result.wins += well[-1] and not well[0]
            result.losses += well[0] and not well[-1]
            result.stopped = evidence_against(result.wins, result.losses) >= enough > 0
    return results


def _values(question: EvaluationQuestion, written: WrittenResult, *, failed: bool) -> dict[str, float]:
    """Return the values of one answer, by measure. A quote in place of the text is no right answer."""
    values = {"failed": float(failed), "withheld": written.values["written_withheld"]}
    if question.answerable:
        values["right"] = written.values["written_right"] * written.is_written
        values["refused"] = written.values["written_refused"]
    else:
        values["refused_rightly"] = written.values["written_rightly_refused"]
    return values


def _speed(timed: _Timed, usd_per_hour: float | None) -> dict[str, float]:
    """Return times and cost of a call that gave text, by measure."""
    if timed.first_s is None:
        return {}
    values = {"first_token_s": timed.first_s}
    if timed.tokens > 1 and timed.seconds > timed.first_s:
        values["tokens_per_s"] = (timed.tokens - 1) / (timed.seconds - timed.first_s)
    if usd_per_hour is not None:
        values["usd_per_1000"] = 1000 * usd_per_hour * timed.seconds / 3600
    return values


class _Timed:
    """Reads a model's stream as it comes, whenever its reader takes it, and keeps the times of the last one.

    The answer path reads the first text only when it has the vectors of the section beside it.
    """

    def __init__(self, generator: AnswerGenerator, clock: Clock) -> None:
        self._generator, self._clock = generator, clock
        self.start()

    def start(self) -> None:
        self.first_s: float | None = None
        self.seconds, self.tokens, self.failed = 0.0, 0, False

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        self.start()
        self.failed, began_s = True, self._clock.monotonic_s()
        async with self._generator.stream(request, deadline=deadline) as stream:
            read = _Read(stream.inference_id, stream.variant)
            reading = asyncio.create_task(self._read(stream, read, began_s=began_s))
            try:
                yield read
            finally:
                reading.cancel()
                await asyncio.wait([reading])

    async def _read(self, stream: GenerationStream, read: _Read, *, began_s: float) -> None:
        try:
            async for delta in stream:
                self.seconds = self._clock.monotonic_s() - began_s
                if delta.text:
                    self.first_s = self.seconds if self.first_s is None else self.first_s
                    self.tokens += 1
                if delta.usage is not None and delta.usage.completion_tokens:
                    self.tokens = delta.usage.completion_tokens
                self.failed = self.failed and delta.finish_reason is None
                read.items.put_nowait(delta)
            read.items.put_nowait(None)
        except AssistantError as error:
            read.items.put_nowait(error)


class _Read:
    def __init__(self, inference_id: str | None, variant: str | None) -> None:
        self.inference_id, self.variant = inference_id, variant
        self.items: asyncio.Queue[GenerationDelta | AssistantError | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        while (item := await self.items.get()) is not None:
            if isinstance(item, AssistantError):
                raise item
            yield item


def comparison_page(results: Sequence[Compared], clusters: Mapping[str, str], *, what: str) -> str:
    """Return one HTML page that loads nothing: a plot for each measure, a table, and who was stopped.

    ``what``: which questions were asked.
    """
    rows = [(each, each.estimates(clusters)) for each in results]
    plots = [
        (title, 1.0 if name in SHARES else max(one[name].high for _, one in found), name, found)
        for name, title in MEASURES.items()
        if (found := [(each, one) for each, one in rows if name in one])
    ]
    return template_page(
        "comparison.html.j2",
        plots=plots,
        rows=rows,
        measures=MEASURES,
        what=what,
        wrongly=WRONGLY_STOPPED,
    )
