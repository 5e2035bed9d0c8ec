"""How Lambda calls us: clients are opened with the first event and shared by all that follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Generic, Protocol, TypeVar

from assistant.settings.functions import FunctionSettings
from assistant.settings.process import StoreSettings
from assistant.telemetry import configure_logging

Event = Mapping[str, Any]
Settings = FunctionSettings | StoreSettings
Opened = TypeVar("Opened")
Read = TypeVar("Read", bound=Settings)


class LambdaContext(Protocol):
    """The part of Lambda's context that is used."""

    def get_remaining_time_in_millis(self) -> int: ...


class FunctionEntry(Generic[Read, Opened]):
    """A handler: ``settings`` are read, and what ``opening`` gives is opened, when the first event comes.

    One event loop serves all events of an execution environment, because clients belong to their loop. What
    is open is left to Lambda, which ends the environment without a word.
    """

    def __init__(
        self,
        settings: type[Read],
        opening: Callable[[Read], AbstractAsyncContextManager[Opened]],
        handle: Callable[[Opened, Event, LambdaContext], Awaitable[Any]],
    ) -> None:
        self._settings = settings
        self._opening = opening
        self._handle = handle
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._opened: list[Opened] = []

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self._run(event, context))

    def close(self) -> None:
        """Close what is open, for a process that outlives its events: a test's."""
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()
        self._runner = None
        self._opened = []

    async def _run(self, event: Event, context: LambdaContext) -> Any:
        if not self._opened:
            settings = self._settings.read()
            configure_logging(settings.log_level)
            self._opened.append(await self._stack.enter_async_context(self._opening(settings)))
        return await self._handle(self._opened[0], event, context)
