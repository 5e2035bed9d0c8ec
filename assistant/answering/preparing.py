"""What happens to a question before the first event: everything that may still become an HTTP status."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

from assistant.answering.asking import AnswerRequest, PreparedAnswer
from assistant.answering.evidence_gate import gate
from assistant.answering.passage_text import PassageText
from assistant.answering.prompting import Prompt, PromptBuilder
from assistant.answering.retrieving import RetrievePassages
from assistant.answering.services import TenantServices
from assistant.answering.snippets import snippet
from assistant.answering.steps import Steps, begin_answer, fail_span
from assistant.answering.vocabulary import Vocabulary
from assistant.answering.waiting import within
from assistant.domain.answers import AnswerRecord, GateDecision, Source
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, NotFoundError, RecordsUnavailableError
from assistant.domain.identity import Identity
from assistant.domain.retrieval import RankedPassage, Retrieved

RECORDS_TIMEOUT_S = 3.0
"""For one reading from or writing to the store of answers."""


class PrepareAnswer:
    """The first of the two steps of ``AnswerQuestion``."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._retrieve = RetrievePassages(services)
        self._prompts = PromptBuilder(services)
        self._vocabulary = Vocabulary.of(services.tenant)

    async def prepare(
        self,
        asking: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        answer_id: str | None = None,
        conversation_id: str | None = None,
    ) -> PreparedAnswer:
        """See ``AnswerQuestion.prepare``."""
        services = self._services
        asked_at, started_s = services.clock.now(), services.clock.monotonic_s()
        answer_id = answer_id or services.new_id()
        conversation_id = conversation_id or asking.conversation_id or services.new_id()
        steps = begin_answer(
            answer_id, conversation_id=conversation_id, tenant=services.tenant.name, clock=services.clock
        )
        with _ended_on_error(steps):
            history = await self._history(asking, identity=identity, deadline=deadline, steps=steps)
            before = history[-1].question if history else asking.question_before
            question = _joined(before, asking.question)
            retrieved = await self._retrieve.retrieve(
                question, labels=identity.labels, deadline=deadline, filters=asking.filters, steps=steps
            )
            words = self._vocabulary.language
            texts = tuple(PassageText(ranked.passage, language=words) for ranked in retrieved.passages)
            decision = self._judge(
                asking.question, retrieved, texts, follow_up=before is not None, steps=steps
            )
            max_tokens = self._max_tokens(asking)
            return PreparedAnswer(
                answer_id=answer_id,
                conversation_id=conversation_id,
                identity=identity,
                request=asking,
                retrieval_question=question,
                asked_at=asked_at,
                started_s=started_s,
                deadline=deadline,
                retrieved=retrieved,
                texts=texts,
                make_sources=partial(self._sources, question, retrieved.passages, texts, identity=identity),
                gate=decision,
                prompt=self._prompt(asking, retrieved, history, max_tokens, steps)
                if decision.passed
                else None,
                max_tokens=max_tokens,
                steps=steps,
            )

    async def _history(
        self, asking: AnswerRequest, *, identity: Identity, deadline: Deadline, steps: Steps
    ) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        if asking.conversation_id is None:
            return []
        with steps.step("conversation"):
            step = Deadline.after(deadline.within_s(RECORDS_TIMEOUT_S), clock=self._services.clock)
            turns = await within(
                self._services.records.list_conversation(
                    asking.conversation_id, limit=max(1, self._services.tenant.prompt.history_turns)
                ),
                step=step,
                whole=deadline,
                late=RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != identity.agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    def _judge(
        self,
        question: str,
        retrieved: Retrieved,
        texts: Sequence[PassageText],
        *,
        follow_up: bool,
        steps: Steps,
    ) -> GateDecision:
        with steps.step("gate") as span:
            decision = gate(
                question,
                retrieved,
                thresholds=self._services.tenant.gate,
                vocabulary=self._vocabulary,
                texts=texts,
                follow_up=follow_up,
            )
            span.set_attribute("assistant.gate.passed", decision.passed)
            span.set_attribute("assistant.gate.best_cosine", decision.best_cosine)
            span.set_attribute("assistant.gate.coverage", decision.coverage)
        return decision

    def _max_tokens(self, asking: AnswerRequest) -> int:
        limit = self._services.tenant.generation.max_tokens
        return min(asking.max_tokens or limit, limit)

    def _prompt(
        self,
        asking: AnswerRequest,
        retrieved: Retrieved,
        history: Sequence[AnswerRecord],
        max_tokens: int,
        steps: Steps,
    ) -> Prompt:
        with steps.step("prompt") as span:
            prompt = self._prompts.build(
                _joined(asking.question_before, asking.question),
                passages=[ranked.passage for ranked in retrieved.passages],
                history=history,
                max_tokens=max_tokens,
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_passages", prompt.dropped_passages)
        return prompt

    def _sources(
        self,
        question: str,
        passages: Sequence[RankedPassage],
        texts: Sequence[PassageText],
        *,
        identity: Identity,
    ) -> tuple[Source, ...]:
        stems = frozenset[str]().union(*(term.forms for term in self._vocabulary.terms(question)))
        return tuple(
            Source(
                n=n,
                document_id=passage.document_id,
                title=passage.title,
                url=passage.url,
                source=passage.source,
                score=ranked.fused_score,
                snippet=snippet(text, stems=stems),
                span=(passage.span.start, passage.span.end),
                document_url=self._services.links.link(
                    passage.document_id,
                    span=passage.span,
                    identity=identity,
                    content_hash=passage.content_hash,
                ),
            )
            for n, (ranked, text) in enumerate(zip(passages, texts, strict=True), start=1)
            for passage in [ranked.passage]
        )


def _joined(before: str | None, question: str) -> str:
    return question if before is None else f"{before}\n{question}"


@contextmanager
def _ended_on_error(steps: Steps) -> Generator[None, None, None]:
    """End the root span when there will be no stream to end it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, AssistantError):
            fail_span(steps.root, error.code)
        steps.root.end()
        raise
