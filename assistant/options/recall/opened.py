"""Builds recall of one tenant, and its sweep beside the answers."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

from assistant.options.desk.cases import DeskServices
from assistant.options.recall.routes import ReadRecalls
from assistant.options.recall.section import RecallTenant
from assistant.options.recall.store import RECALLS, SENDS
from assistant.options.recall.sweep import RecallSweep
from assistant.tenant.toml_file import keys_of

if TYPE_CHECKING:
    from assistant.process.settings import ServiceSettings
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice


async def open_recall(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return what the routes ask for, and the sweep."""
    section = keys_of(stores.tenant, RecallTenant).recall
    services, recalls = served.part(DeskServices), await stores.of(RECALLS)
    sweep = RecallSweep(services, recalls, await stores.of(SENDS), due_days=section.due_days)
    texts, url = served.answering.documents.texts, section.conversation_url
    if url is not None and url.startswith("{"):
        system, path = url[1:].split("}", 1)
        address = cast("ServiceSettings", stores.settings).address_of(stores.tenant, system)
        url = None if address is None else f"{str(address).rstrip('/')}{path}"
    return sweep, ReadRecalls(services, recalls, texts, url)


def run_recall(served: ServedTenant) -> Sequence[Coroutine[Any, Any, None]]:
    """Return what keeps the list in step with documents, until cancelled."""
    return (served.part(RecallSweep).run(),)
