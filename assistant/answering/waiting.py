"""A limit on every wait of a step."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from assistant.domain.clock import Deadline
from assistant.domain.errors import DeadlineExceededError, DependencyError

Result = TypeVar("Result")
_GRACE_S = 0.25
"""Beyond a step's limit: an adapter that keeps its deadline raises its own, better error first."""


async def within(
    work: Coroutine[Any, Any, Result], *, step: Deadline, whole: Deadline, late: DependencyError
) -> Result:
    """Await one step's work until shortly after the step's limit.

    When only the step's limit has passed, the step is to blame and ``late`` is raised; when the whole
    answer's deadline has, DeadlineExceededError.
    """
    try:
        async with asyncio.timeout(step.remaining_s() + _GRACE_S):
            return await work
    except (TimeoutError, DeadlineExceededError):
        whole.within_s(_GRACE_S)
        raise late from None
