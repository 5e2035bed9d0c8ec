"""Fills the index of ``[embedding_next]`` and makes it live, or goes back, or deletes the version before.

A call works for ``SLICE_S`` and says how far it came: ``assistant aws reindex`` calls again until it is done.
A call that was killed is continued by the next one, because what is left follows from comparing two versions.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import ReindexingSettings
from assistant.service.function import Event, FunctionEntry
from assistant.service.served import Reindexing, open_reindexing

SLICE_S = 40.0
"""Within the 60 s that a client of AWS waits for a response, with the start of a function."""


async def run(services: Reindexing, event: Event, *, slice_s: float = SLICE_S) -> dict[str, Any]:
    """Return ``{"done": …}`` with the report, or ``{"held": …, "of": …}`` with the number of documents.

    ``event`` has ``do``: ``next``, ``back`` or ``drop-old``. Raises ConfigurationError, and as
    ``Reindexing``.
    """
    reached = {"held": 0, "of": 0}
    following, do = services.stores.tenant.embedding_next, event.get("do")

    def show(held: int, of: int) -> None:
        reached.update(held=held, of=of)

    try:
        async with asyncio.timeout(slice_s):
            if do == "drop-old":
                return {"done": {"dropped": await services.drop_others()}}
            if do == "back":
                return {"done": asdict(await services.back(progress=show))}
            if do == "next" and following is not None:
                return {"done": asdict(await services.to_model(following.model, progress=show))}
    except TimeoutError:
        return reached
    raise ConfigurationError(f'This function cannot do "{do}": the tenant file has no such model.')


handle = FunctionEntry(ReindexingSettings, open_reindexing, run)
