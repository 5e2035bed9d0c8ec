"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace

from assistant.answer.adaptations import Adaptations
from assistant.answer.chat import ReadChat
from assistant.answer.check import CheckText
from assistant.answer.elements import CallBounds, Hydration
from assistant.answer.end import EndAnswer
from assistant.answer.events import AnswerEvent, Sources, Started
from assistant.answer.index_watch import IndexState
from assistant.answer.prepared import PreparedAnswer, Run
from assistant.answer.prompt import BuildPrompt
from assistant.answer.quote import MakeQuote, Quote
from assistant.answer.rank import RankDocuments, Ranked
from assistant.answer.read import ReadQuestion
from assistant.answer.record import KeepRecord
from assistant.answer.search import SearchSources
from assistant.answer.services import TenantServices, begin_answer, fail_span
from assistant.answer.sources import SearchScope, SourceSearch
from assistant.answer.take import AnswerRequest, TakeQuestion
from assistant.answer.write import ModelText
from assistant.domain.answers import AnswerRecord
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.identity import CareContext, Identity

_HEAD_START_S = 0.001
"""Pause after the request to the model is begun, so that its task sends it before the sources are made: these
take the event loop for longer than this, and the model takes many times as long to begin."""


class AnswerQuestion:
    """Answers questions of one tenant's agents. One instance serves all requests of a process.

    Two halves, so that an error before the first event can still be an HTTP status::

        prepared = await answer_question.prepare(request, identity=identity, deadline=deadline)
        async with aclosing(answer_question.stream(prepared)) as events:
            async for event in events: ...

    The steps are classes of their own modules::

        prepare  take → chat → read → search → rank → prompt; → quote where there is no prompt
        stream   the model's text, beside it quote → check (sentence by sentence) → end → keep (the record)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.adaptations = Adaptations(services)
        self.bounds = CallBounds()
        """Limits the tenant's live reads in this process, over all its answers."""
        self.take = TakeQuestion(services)
        self.sources = SourceSearch(services)
        self.chat = ReadChat(services, self.sources)
        self.read = ReadQuestion(services, self.adaptations, self.sources)
        self.search = SearchSources(services, self.adaptations, self.sources)
        self.rank = RankDocuments(services, self.adaptations, self.sources)
        self.prompt = BuildPrompt(services, self.adaptations)
        self.quote = MakeQuote(services, self.adaptations, self.rank)
        self.check = CheckText(services)
        self.end = EndAnswer(services)
        self.keep = KeepRecord(services)

    async def prepare(
        self,
        request: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        begun: AnswerRecord | None = None,
    ) -> PreparedAnswer:
        """Find the documents, build the prompt or the quote, begin the live reads; return all that.

        ``begun``: the record that ``take.begin`` returned to a caller which needs its id early; None: it is
        begun here. ``context``: whose live data may be read, already verified; None: nobody's.

        Raises NotFoundError (no such conversation, or another agent's), InvalidRequestError (a chat without a
        customer's message), TooLargeError (the question does not fit the model's context),
        EmbeddingUnavailableError, SearchUnavailableError, RecordsUnavailableError,
        OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        services = self._services
        services.index_watch.require_own()
        begun = begun or self.take.begin(request, identity=identity)
        steps = begin_answer(begun, tenant=services.tenant.name, clock=services.clock)
        scope = SearchScope(identity.labels, deadline, steps, request.filters)
        with _ended_on_error(scope) as on_error:
            question = await self.take.run(
                request, identity=identity, begun=begun, scope=scope, context=context
            )
            question = await self.chat.run(question, scope)
            queries = await self.read.run(question, scope)
            hits = await self.search.run(queries.each, scope)
            ranked = await self.rank.run(hits, scope)
            index = await self._index_state(ranked, scope)
            hydration = Hydration(services, queries.caller, deadline=deadline, bounds=self.bounds)
            on_error.callback(hydration.cancel)
            prompt = await self.prompt.run(question, ranked, scope)
            if prompt is not None:
                # ``stream`` makes the quote; elements that the model's text names are read when it names them
                quote = Quote.of_prompt(ranked, prompt)
                live = hydration.ask(queries.live)
            else:
                quote = await self.quote.run(ranked, None, identity, scope)
                live = hydration.ask(
                    queries.live, named=(*quote.elements, *quote.of_items), answered=quote.answered
                )
                for name in quote.elements:
                    hydration.begin(name)
                if len(quote.answered) < len(quote.evidence):
                    # A damaged index must never look like "not known".
                    await services.index_watch.require_complete(deadline=deadline)
                    index = services.index_watch.state
            red_flags = await queries.red_flags
            return PreparedAnswer(
                question, queries, prompt, quote, live, red_flags, index, Run(scope, hydration)
            )

    async def stream(
        self, prepared: PreparedAnswer, *, resumable: bool = False
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield started, sources, (token | sentence | element)*, done or error; once for each answer.

        Elements that end are sent between the texts, also while the model is silent. All have ended before
        ``done``.

        The record is written twice. First between the sources and the text, which waits 0.1 s for it at most:
        an agent who read any text is on record, also if this process dies, unless the store was slower. Then
        before the last event: a client that saw ``done`` can mark the answer. While the store fails, ``done``
        has ``recorded`` false, and the record is written later.

        | what ends the stream early                        | last event              | counts as    |
        | ``prepared.run.cancel(Cause.CANCELLED)``          | error, code `cancelled` | cancelled    |
        | ``prepared.run.cancel(Cause.DISCONNECTED)``       | none                    | disconnected |
        | the reading task is cancelled, generator closed   | none                    | disconnected |

        Each closes the endpoint's connection and writes the record. The reader must close the generator
        (``contextlib.aclosing``). A stream that was never begun leaves no record.
        """
        run, prompt, quote, text, ending = prepared.run, prepared.prompt, prepared.quote, None, None
        answer, record = self.check.begin(prepared), None
        try:
            if prompt is not None and run.interruption.cause is None:
                question = prepared.question
                text = ModelText(self._services, prompt, question.begun, run, question.request.stops)
                text.begin()
                await asyncio.sleep(_HEAD_START_S)
                quote = await self.quote.run(quote.ranked, prompt, question.identity, run.scope)
            elif prompt is not None:  # cancelled between ``prepare`` and now
                quote = self.quote.of_prompt(quote.ranked, prompt, prepared.question.identity)
            quote = quote.without_scores()
            yield self._started(prepared, resumable=resumable)
            yield Sources(sources=quote.sources, section=quote.section, offered=quote.offered)
            record = await self.keep.begin(prepared, quote)
            prepared = replace(prepared, quote=quote)  # frees the scores while a model writes
            async with aclosing(self.check.run(answer, text, prepared)) as events:
                async for event in events:
                    yield event
            shown = answer.shown()
            ending = self.end.run(shown, record, prepared)
            record, is_written = await self.keep.run(record, shown, ending, text, prepared)
            if last := ending.last_event(record, shown, recorded=is_written):
                yield last
        except (asyncio.CancelledError, GeneratorExit):
            answer.leave(run.interruption.cause)
            raise
        finally:
            if text is not None:
                await text.close()
            if ending is None:  # left, cancelled or failed before its end: the record says how far it came
                shown, record = answer.shown(), record or self.keep.begun(prepared, quote)
                prepared = replace(prepared, quote=quote)
                ending = self.end.run(shown, record, prepared)
                await self.keep.run(record, shown, ending, text, prepared)

    async def _index_state(self, ranked: Sequence[Ranked], scope: SearchScope) -> IndexState:
        """Return whether the index has all documents of the sources whose documents were read. Where that is
        unknown, ``scope.degraded`` says so."""
        sources = self._services.sources_of(name for part in ranked for name in part.documents)
        index = await self._services.index_watch.state_for(sources, deadline=scope.deadline)
        if not index.loading and not index.is_whole(sources):
            scope.degraded.append("check of the index")
        return index

    def _started(self, prepared: PreparedAnswer, *, resumable: bool) -> Started:
        begun, queries = prepared.question.begun, prepared.queries
        return Started(
            answer_id=begun.answer_id,
            conversation_id=begun.conversation_id,
            model=begun.model_id,
            index_version=prepared.quote.ranked[0].hits.retrieved.index_version,
            trace_id=prepared.run.scope.steps.trace_id,
            resumable=resumable,
            red_flags=prepared.red_flags,
            unchecked_language=queries.unchecked_language,
            recorded_model=self._services.writer.model.recorded if prepared.prompt is not None else None,
        )


@contextmanager
def _ended_on_error(scope: SearchScope) -> Generator[ExitStack, None, None]:
    """Yield callbacks that run only if the body raises; the first ends the root span, which the stream ends
    otherwise. The tasks of the scope are cancelled in any case: the steps have awaited what they need."""
    with ExitStack() as on_error:
        on_error.callback(scope.steps.root.end)
        try:
            yield on_error
        except AssistantError as error:
            fail_span(scope.steps.root, error.code)
            raise
        finally:
            for task in scope.tasks:
                task.cancel()
        on_error.pop_all()  # no error: forget the callbacks
