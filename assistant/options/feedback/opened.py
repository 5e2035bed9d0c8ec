"""Builds the mover of feedback, and what commands read of the feedback store.

| opened by | function | stores |
| --- | --- | --- |
| the worker of a machine, for all tenants | ``open_movers`` | embedded |
| the function ``move_feedback``, for its one tenant | ``open_moving`` | AWS |
| ``assistant learn`` | ``open_deployed_learning`` | AWS |
| ``assistant models capture --deployed`` | ``open_deployed_capture`` | AWS |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.documents.readable import ReadableDocuments
from assistant.documents.shared_links import tenant_secret
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.option import Place
from assistant.options.feedback.mover import OUTBOX, CaseIntake, MoveFeedback, MoverStores
from assistant.options.feedback.patients_opened import patients_filter
from assistant.options.feedback.settings import MovingSettings
from assistant.options.feedback.signals import ErasePatient, Signals
from assistant.options.feedback.store import FEEDBACK_FILES, StoredFeedback
from assistant.process.settings import PreparingSettings, StoreSettings
from assistant.service.opened import tenant_in
from assistant.stores.captures import StoredCaptures
from assistant.stores.clients import AwsClients, open_clients
from assistant.stores.desk import DESK, TwoPeople
from assistant.stores.documents import DOCUMENTS, STATES
from assistant.stores.events import ERASURE_KEYS
from assistant.stores.opened import AwsStores, EmbeddedTenant, open_deployed, open_embedded
from assistant.stores.records import RECORDS
from assistant.stores.store import Stores
from assistant.tenant.deployed_names import FEEDBACK_SECRET_PURPOSE
from assistant.tenant.tenant import TenantConfig

if TYPE_CHECKING:
    from assistant.stores.desk import StoredDesk
    from assistant.stores.documents import StoredStates
    from assistant.stores.events import StoredErasureKeys
    from assistant.stores.records import StoredRecords

INTAKES = Place[Callable[[TenantConfig, Stores], Awaitable[CaseIntake]]]("intake of feedback")
"""The option ``desk`` joins here. The mover takes the first intake; none without that option."""


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
    intakes = [await open_intake(tenant, stores) for open_intake in INTAKES.joined()]
    mover_stores = MoverStores(
        outbox=await stores.of(OUTBOX),
        records=records,
        texts=ReadableDocuments(documents, states=states),
        keys=await stores.of(ERASURE_KEYS),
        feedback=await feedback_of(stores, tenant.name),
        intake=next(iter(intakes), None),
        patients=patients_filter(),
    )
    return MoveFeedback(mover_stores, signals=signals)


async def feedback_of(stores: Stores, tenant: str) -> StoredFeedback:
    """Return the feedback store over a tenant's opened stores."""
    files, keys = await stores.of(FEEDBACK_FILES), await stores.of(ERASURE_KEYS)
    return StoredFeedback(files, tenant=tenant, keys=keys)


@dataclass(frozen=True, slots=True)
class LearningStores:
    """What ``assistant learn`` works with of one tenant, on this machine or in a deployment."""

    tenant: TenantConfig
    feedback: StoredFeedback
    erasure_keys: StoredErasureKeys
    desk: StoredDesk
    records: StoredRecords
    texts: ReadableDocuments
    states: StoredStates

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
            states=states,
        )


@asynccontextmanager
async def open_deployed_learning(settings: PreparingSettings, tenant: str) -> AsyncGenerator[LearningStores]:
    """Open what a deployment stores of a tenant. Raises ConfigurationError, DependencyError."""
    async with open_deployed(settings, tenant) as (config, stores):
        yield await LearningStores.of(stores, config)


@asynccontextmanager
async def open_deployed_capture(
    settings: PreparingSettings, tenant: str
) -> AsyncGenerator[tuple[StoredCaptures, StoredRecords]]:
    """Open the clean capture and the records of a deployment. The quarantine is not opened: raw calls are
    the redactor's alone. Raises ConfigurationError."""
    if not settings.capture_bucket:
        raise ConfigurationError(f"{settings.variable('capture_bucket')} is needed.")
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_clients(settings))
        stores = AwsStores(clients, settings, stack=stack, tenant=tenant)
        s3 = await clients.aws("s3")
        capture = StoredCaptures.on_aws(s3, quarantine_bucket="", capture_bucket=settings.capture_bucket)
        yield capture, await stores.of(RECORDS)


def local_signals(tenant: TenantConfig, *, tenants_dir: Path, state_dir: Path) -> Signals:
    """Return what makes events on this machine, with the key of pseudonyms that the tenant file names
    (``feedback.pseudonyms``, relative to the two folders). Raises ConfigurationError."""
    secret = tenant_secret(tenant, "feedback.pseudonyms", tenants_dir=tenants_dir, state_dir=state_dir)
    return Signals(tenant, secret=secret)


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
        keys, feedback = await aws.of(ERASURE_KEYS), await feedback_of(aws, tenant.name)
        two_people = TwoPeople(await aws.of(DESK), is_needed=tenant.needs_two_people)
        erase = ErasePatient(signals=signals, keys=keys, feedback=feedback, two_people=two_people)
        yield Moving(await _mover(tenant, aws, signals), erase, SystemClock(), settings)
