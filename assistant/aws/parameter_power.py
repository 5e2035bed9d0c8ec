"""The power switch of a tenant's model endpoints as a parameter of SSM."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from assistant.aws.aws_calls import aws_call
from assistant.domain.clock import Clock
from assistant.domain.errors import DependencyError
from assistant.settings.deployed_names import CLOSED, ON

_REFRESH_S = 5.0
_STALE_S = 10.0
"""After a quiet time the last reading says nothing: a paused night is longer than any cache."""
_PATIENCE_S = 1.0
_LIMIT_S = 15.0
_log = structlog.get_logger(__name__)


class ParameterPower:
    """``EndpointPower`` by the parameter ``name``, which holds a word of ``power_words``.

    It is read beside the requests, when one comes and the last reading is over 5 s old; over 10 s, requests
    wait for it, until a second after it was begun: a store that stalls costs one question a second, and the
    next ones nothing. Any other word is logged and means on: the endpoints themselves
    say what they are when they are asked. While the parameter cannot be read, the last state stands.
    """

    def __init__(self, client: Any, *, name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._paused = False
        self._read_at_s: float | None = None
        self._known_at_s: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        due = self._read_at_s is None or now_s - self._read_at_s >= _REFRESH_S
        if due and (self._reading is None or self._reading.done()):
            self._read_at_s = now_s
            self._reading = asyncio.create_task(self._read())
        stale = self._known_at_s is None or now_s - self._known_at_s > _STALE_S
        if stale and self._reading is not None and self._read_at_s is not None:
            left_s = self._read_at_s + _PATIENCE_S - now_s
            if left_s > 0:
                await asyncio.wait([self._reading], timeout=left_s)
        return self._paused

    async def read(self) -> bool:
        """Ask now, and return whether the endpoints are paused, as ``is_paused`` understands it."""
        await self._read()
        return self._paused

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            async with aws_call("The power parameter", limit_s=_LIMIT_S):
                answer = await self._client.get_parameter(Name=self._name)
            word = str(answer["Parameter"]["Value"]).strip()
        except (DependencyError, KeyError) as error:
            _log.warning("power_not_read", reason=str(error))
            return
        finally:
            self._known_at_s = began_s
        if word != ON and word not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = word in CLOSED
