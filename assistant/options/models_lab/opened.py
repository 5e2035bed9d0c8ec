"""Makes training sets of what a tenant's stores hold, and opens those stores for the task that makes them.

``assistant learn export`` and the task (``make_sets``) both call ``training_sets``, then ``Export.write``;
then the task calls ``put_set``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from assistant.domain.desk import DeskKind
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.events import FeedbackText
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.opened import LearningStores
from assistant.options.desk.patients import PatientsDataFilter
from assistant.options.models_lab.settings import MakingSetsSettings
from assistant.options.models_lab.training_sets import (
    MANIFEST,
    Export,
    build_sets,
    export_of_sets,
    recorded_prompt,
)
from assistant.service.opened import tenant_in
from assistant.stores.clients import AwsClients
from assistant.stores.opened import AwsStores
from assistant.stores.s3 import upload_folder

_TEXTS_AT_ONCE = 500
"""Sealed texts that are read and opened together."""


async def training_sets(stores: LearningStores, since: datetime, until: datetime) -> Export:
    """Return the training sets of the signals in [since, until).

    An event without a readable text makes no example: it was erased, withdrawn, or not kept. Raises
    InvalidRequestError where no example is left.
    """

    events = [event async for event in stores.feedback.read(since, until)]
    ids = [event.text_id for event in events if event.text_id is not None]
    texts: dict[str, FeedbackText] = {}
    for start in range(0, len(ids), _TEXTS_AT_ONCE):
        sealed = await stores.feedback.texts(ids[start : start + _TEXTS_AT_ONCE])
        texts |= await unseal_all(sealed.values(), stores.erasure_keys)
    items = await stores.desk.list(DeskKind.APPROVED_ANSWER)
    sets = await build_sets(
        events,
        texts=texts,
        approved=[ApprovedAnswer.model_validate_json(item.body) for item in items],
        prompt_of=partial(
            recorded_prompt,
            tenant=stores.tenant,
            records=stores.records,
            texts=stores.texts,
        ),
        patients_data=PatientsDataFilter(),
    )
    return export_of_sets(sets, tenant=stores.tenant, window=(since, until))


@asynccontextmanager
async def open_making_sets(settings: MakingSetsSettings) -> AsyncGenerator[LearningStores]:
    """Open the stores of the task's tenant. Raises ConfigurationError, DependencyError."""
    async with AsyncExitStack() as stack:
        clients = AwsClients(settings, stack)
        tenant = await tenant_in(await clients.aws("s3"), settings)
        yield await LearningStores.of(AwsStores(clients, settings, stack=stack), tenant)


async def put_set(settings: MakingSetsSettings, folder: Path) -> str:
    """Copy a set's folder to the bucket of sets that the settings name, its manifest last; return its place,
    "s3://BUCKET/sets/pharmacy-51ab9c…/". Raises DependencyError."""

    place = f"{settings.sets_s3}{folder.name}/"
    async with AsyncExitStack() as stack:
        s3 = await AwsClients(settings, stack).aws("s3")
        await upload_folder(s3, folder=folder, uri=place, last=MANIFEST)
    return place
