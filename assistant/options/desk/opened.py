"""Builds the review desk, the mover of feedback and recall of one tenant, and what runs for them.

| opened by | function | stores |
| --- | --- | --- |
| the service, for each tenant | ``open_desk``, ``run_desk`` | as its settings choose |
| the worker of a machine, for all tenants | ``open_movers`` | embedded |
| the function ``move_feedback``, for its one tenant | ``open_moving`` | AWS |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from assistant.documents.readable import ReadableDocuments
from assistant.documents.shared_links import local_secret
from assistant.documents.withdraw import KeptTexts
from assistant.domain.answers import Verdict
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import DOCUMENT_SUBJECT
from assistant.domain.identity import Identity
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.feedback_store import FEEDBACK_FILES, StoredFeedback
from assistant.options.desk.gaps import GapUpkeep
from assistant.options.desk.intake import OpenCases, refuse_above
from assistant.options.desk.mover import OUTBOX, MoveFeedback, MoverStores
from assistant.options.desk.patients_opened import patients_filter
from assistant.options.desk.read_recalls import ReadRecalls
from assistant.options.desk.recalls import RECALLS, SENDS
from assistant.options.desk.section import DeskSection
from assistant.options.desk.settings import MovingSettings
from assistant.options.desk.signals import ErasePatient, Signals
from assistant.options.desk.sweep import RecallSweep
from assistant.options.desk.upkeep import ApprovedTexts, DeskUpkeep
from assistant.process.settings import StoreSettings
from assistant.service.opened import tenant_in
from assistant.service.stored import ReadAnswers
from assistant.stores.clients import AwsClients
from assistant.stores.desk import DESK, TwoPeople
from assistant.stores.documents import DOCUMENTS, STATES
from assistant.stores.events import ERASURE_KEYS
from assistant.stores.opened import AwsStores, EmbeddedTenant, open_embedded
from assistant.stores.records import RECORDS
from assistant.stores.store import Stores
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language

if TYPE_CHECKING:
    from assistant.process.settings import ServiceSettings
    from assistant.service.served import ServedTenant
    from assistant.stores.desk import StoredDesk
    from assistant.stores.events import StoredErasureKeys
    from assistant.stores.opened import StoreChoice
    from assistant.stores.records import StoredRecords


# --- beside the answers -----------------------------------------------------------------------------------
async def open_desk(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the parts of a served tenant that the routes ask for, such as ``tenant.part(DeskServices)``, and
    the sweep of recall. Called once when the service opens a tenant."""
    answering, tenant = served.answering, stores.tenant
    section, recalls = DeskSection.of(tenant), await stores.of(RECALLS)
    services = DeskServices(
        store=await stores.of(DESK),
        records=answering.records,
        answers=ReadAnswers(answering),
        knowledge=served.knowledge,
        sources=served.sources,
        embedder=answering.embedder,
        embedding_model=tenant.embedding.model,
        labels=tenant.labels,
        needs_two_people=tenant.needs_two_people,
        open_cases_per_agent=section.open_cases_per_agent,
        clock=stores.clock,
    )
    url = section.recall.conversation_url
    if url is not None and url.startswith("{"):
        system, path = url[1:].split("}", 1)
        address = cast("ServiceSettings", stores.settings).address_of(tenant, system)
        url = None if address is None else f"{str(address).rstrip('/')}{path}"
    return (
        services,
        RecallSweep(services, recalls, await stores.of(SENDS), due_days=section.recall.due_days),
        ReadRecalls(services, recalls, answering.documents.texts, url),
    )


def run_desk(served: ServedTenant) -> Sequence[Coroutine[Any, Any, None]]:
    """Return the desk's tasks of one served tenant. They run until cancelled: the upkeep, the grouping of
    gaps, and the sweep of recall. Called after ``open_desk``."""
    services = served.part(DeskServices)
    upkeep = DeskUpkeep(services)
    gaps = GapUpkeep(services, language(served.answering.tenant.language))
    return upkeep.run(), gaps.run(), served.part(RecallSweep).run()


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


# --- the receipt of a withdrawal --------------------------------------------------------------------------
async def _counts(stores: Stores, document_id: str) -> Mapping[str, int]:
    """Return the texts that are left, by the names of ``receipt_places.toml``: approved answers with the
    document as a source; 0 for feedback where the document's key is destroyed, so that no text about it can
    be read, else 1."""
    resting = await ApprovedTexts(await stores.of(DESK)).resting()
    subject, keys = f"{DOCUMENT_SUBJECT}{document_id}", await stores.of(ERASURE_KEYS)
    is_kept = (await keys.destroyed([subject])).get(subject) is None
    return {"approved_answers": len(resting.get(document_id, [])), "feedback": int(is_kept)}


async def _remove(stores: Stores, document_id: str) -> int:
    return await ApprovedTexts(await stores.of(DESK)).remove(document_id)


KEPT = KeptTexts(counts=_counts, remove=_remove)
"""Approved answers, feedback and captured calls in the receipt. ``DeskUpkeep`` removes the texts of approved
answers where a service runs."""


# --- the mover --------------------------------------------------------------------------------------------
@asynccontextmanager
async def open_movers(settings: StoreSettings) -> AsyncGenerator[list[MoveFeedback]]:
    """Open the mover of every tenant of the folder over embedded stores; the worker runs each one's ``run``.
    Empty where stores are AWS's. Raises ConfigurationError."""

    async def open_one(tenant: TenantConfig, stores: EmbeddedTenant, _stack: AsyncExitStack) -> MoveFeedback:
        folders = {"tenants_dir": settings.tenants_dir, "state_dir": settings.state_dir}
        return await _mover(tenant, stores, local_signals(tenant, **folders))

    async with open_embedded(settings, open_one) as movers:
        yield movers


async def _mover(tenant: TenantConfig, stores: Stores, signals: Signals) -> MoveFeedback:
    records, documents, states = await stores.of(RECORDS), await stores.of(DOCUMENTS), await stores.of(STATES)
    cases = OpenCases(
        await stores.of(DESK),
        records=records,
        language=language(tenant.language),
        clock=SystemClock(),
        most_of_agent=DeskSection.of(tenant).open_cases_per_agent,
    )
    mover_stores = MoverStores(
        outbox=await stores.of(OUTBOX),
        records=records,
        texts=ReadableDocuments(documents, states=states),
        keys=await stores.of(ERASURE_KEYS),
        feedback=await feedback_of(stores, tenant.name),
        open_cases=cases.take,
        patients=patients_filter(),
    )
    return MoveFeedback(mover_stores, signals=signals)


async def feedback_of(stores: Stores, tenant: str) -> StoredFeedback:
    """Return the feedback store over a tenant's opened stores."""
    files, keys = await stores.of(FEEDBACK_FILES), await stores.of(ERASURE_KEYS)
    return StoredFeedback(files, tenant=tenant, keys=keys)


def local_signals(tenant: TenantConfig, *, tenants_dir: Path, state_dir: Path) -> Signals:
    """Return what makes events on this machine, with the key of pseudonyms that the tenant file names
    (``desk.feedback.pseudonyms``, relative to the two folders). Raises ConfigurationError."""
    location, key = DeskSection.of(tenant).feedback.pseudonyms, "desk.feedback.pseudonyms"
    secret = local_secret(location, tenant=tenant.name, key=key, tenants_dir=tenants_dir, state_dir=state_dir)
    return Signals(tenant, secret=secret)


async def eraser(tenant: TenantConfig, stores: Stores, signals: Signals) -> ErasePatient:
    """Return what erases a patient's words in a tenant's opened stores."""
    return ErasePatient(
        signals=signals,
        keys=await stores.of(ERASURE_KEYS),
        feedback=await feedback_of(stores, tenant.name),
        two_people=TwoPeople(await stores.of(DESK), is_needed=tenant.needs_two_people),
    )


@dataclass(frozen=True, slots=True)
class Moving:
    """What the function ``move_feedback`` (``lambdas/move_feedback.py``) works with, open until its process
    ends."""

    move: MoveFeedback
    erase: ErasePatient
    clock: Clock
    settings: MovingSettings


@asynccontextmanager
async def open_moving(settings: MovingSettings) -> AsyncGenerator[Moving]:
    """Open the mover of the function's tenant. Raises ConfigurationError, DependencyError."""
    from assistant.process.aws import kms_link_secret

    async with AsyncExitStack() as stack:
        clients = AwsClients(settings, stack)
        tenant = await tenant_in(await clients.aws("s3"), settings)
        secret = await kms_link_secret(
            ssm=await clients.aws("ssm"),
            kms=await clients.aws("kms"),
            name=settings.pseudonyms_parameter,
            tenant=tenant.name,
            purpose=FEEDBACK_SECRET_PURPOSE,
        )
        aws, signals = AwsStores(clients, settings, stack=stack), Signals(tenant, secret=secret)
        erase = await eraser(tenant, aws, signals)
        yield Moving(await _mover(tenant, aws, signals), erase, SystemClock(), settings)


# --- commands ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LearningStores:
    """What training sets are made of, of one tenant, on this machine or in a deployment."""

    tenant: TenantConfig
    feedback: StoredFeedback
    erasure_keys: StoredErasureKeys
    desk: StoredDesk
    records: StoredRecords
    texts: ReadableDocuments

    @classmethod
    async def of(cls, stores: Stores, tenant: TenantConfig) -> LearningStores:
        documents, states = await stores.of(DOCUMENTS), await stores.of(STATES)
        return cls(
            tenant,
            feedback=await feedback_of(stores, tenant.name),
            erasure_keys=await stores.of(ERASURE_KEYS),
            desk=await stores.of(DESK),
            records=await stores.of(RECORDS),
            texts=ReadableDocuments(documents, states=states),
        )
