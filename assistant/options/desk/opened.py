"""Builds the review desk of one tenant, and what runs for it beside the answers."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from assistant.answer.stored import ReadAnswers
from assistant.domain.answers import Verdict
from assistant.domain.identity import Identity
from assistant.options.desk.approved import matcher_for
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.gaps import GapUpkeep
from assistant.options.desk.intake import refuse_above
from assistant.options.desk.preview import PreviewAnswer, QuestionVectors
from assistant.options.desk.section import most_open_cases
from assistant.options.desk.upkeep import DeskUpkeep, DocumentQuestions
from assistant.stores.desk import DESK
from assistant.text.language import language

if TYPE_CHECKING:
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice


async def open_desk(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the parts of a served tenant that the desk's routes ask for with ``tenant.part(DeskServices)``
    and ``tenant.part(PreviewAnswer)``. Called once when the service opens a tenant."""
    answering, tenant = served.answering, stores.tenant
    services = DeskServices(
        store=await stores.of(DESK),
        records=answering.records,
        answers=ReadAnswers(answering),
        knowledge=served.knowledge,
        sources=served.sources,
        add_documents=served.add_documents,
        embedder=answering.embedder,
        embedding_model=tenant.embedding.model,
        labels=tenant.labels,
        needs_two_people=tenant.needs_two_people,
        open_cases_per_agent=most_open_cases(tenant),
        clock=stores.clock,
    )
    vectors = QuestionVectors(services.embedder, clock=services.clock)
    return services, PreviewAnswer(services, vectors, matcher_for(tenant))


def run_desk(served: ServedTenant) -> Sequence[Coroutine[Any, Any, None]]:
    """Return the desk's tasks of one served tenant. They run until cancelled: the upkeep, and the grouping of
    gaps. Called after ``open_desk``."""
    services = served.part(DeskServices)
    upkeep = DeskUpkeep(services, DocumentQuestions(services))
    gaps = GapUpkeep(services, language(served.answering.tenant.language))
    return upkeep.run(), gaps.run()


async def admit_verdict(served: ServedTenant, answer_id: str, verdict: Verdict, identity: Identity) -> None:
    """Raise OpenCasesError where the verdict would open more cases than its agent may have open.

    ``service.answers`` calls it before it stores a verdict.
    """
    services = served.part(DeskServices)
    await refuse_above(
        services.open_cases_per_agent,
        store=services.store,
        verdict=verdict,
        answer_id=answer_id,
        agent=identity.agent,
    )
