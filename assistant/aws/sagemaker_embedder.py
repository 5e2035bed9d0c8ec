"""The embedding endpoint on SageMaker, with the schema of Text Embeddings Inference."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import orjson

from assistant.aws.sagemaker import (
    InvocationError,
    InvocationFailure,
    RetryBudget,
    SageMakerRuntime,
    retry_overload,
)
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    EmbeddingUnavailableError,
    OverloadedError,
    PassageTooLongError,
)
from assistant.settings.deployed_names import CapturePurpose, capture_attribute

_BATCH_TEXTS = 32
"""The server's limit of one request (``max_client_batch_size``)."""
_BATCHES_AT_ONCE = 2
"""One is computed while the other is sent."""
_REQUEST_TIMEOUT_S = 60.0


class SageMakerEmbedder:
    """A ``TextEmbedder`` and ``PassageEmbedder`` of one endpoint.

    ``purpose`` goes with each call, so that captured questions and passages can be told apart.
    """

    def __init__(
        self,
        client: SageMakerRuntime,
        *,
        endpoint: str,
        dimensions: int,
        purpose: CapturePurpose,
        request_timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._dimensions = dimensions
        self._attributes = capture_attribute(purpose)
        self._request_timeout_s = request_timeout_s
        self._budget = RetryBudget()

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, OverloadedError, PassageTooLongError, DeadlineExceededError.
        """
        batches = [texts[start : start + _BATCH_TEXTS] for start in range(0, len(texts), _BATCH_TEXTS)]
        if len(batches) == 1:
            return await self._embed_with_retries(batches[0], deadline)
        limit = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def embed_one(batch: Sequence[str]) -> list[list[float]]:
            async with limit:
                return await self._embed_with_retries(batch, deadline)

        async with _FirstErrorGroup() as group:
            tasks = [group.create_task(embed_one(batch)) for batch in batches]
        return [vector for task in tasks for vector in task.result()]

    async def _embed_with_retries(self, texts: Sequence[str], deadline: Deadline) -> list[list[float]]:
        body = orjson.dumps({"inputs": list(texts), "normalize": True, "truncate": False})
        answer = await retry_overload(
            lambda: self._invoke(body, deadline), budget=self._budget, deadline=deadline, sleep=asyncio.sleep
        )
        return self._checked(answer, count=len(texts))

    async def _invoke(self, body: bytes, deadline: Deadline) -> bytes:
        try:
            async with asyncio.timeout(deadline.within_s(self._request_timeout_s)):
                return await self._client.invoke(self._endpoint, body=body, attributes=self._attributes)
        except TimeoutError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The deadline passed while text was embedded.") from None
            raise EmbeddingUnavailableError("The embedding endpoint did not respond in time.") from None
        except InvocationError as error:
            raise _translated(error.failure) from None

    def _checked(self, answer: bytes, *, count: int) -> list[list[float]]:
        try:
            vectors = cast("list[list[float]]", orjson.loads(answer))
            shape = {len(vector) for vector in vectors}
            numbers = all(type(vector[0]) is float for vector in vectors)
        except (orjson.JSONDecodeError, TypeError, IndexError):
            raise EmbeddingUnavailableError("The embedding endpoint returned no vectors.") from None
        if len(vectors) != count or shape - {self._dimensions} or not numbers:
            raise EmbeddingUnavailableError(
                f"The embedding endpoint returned {len(vectors)} vectors of {sorted(shape)} numbers, "
                f"not {count} of {self._dimensions}: is it the model that the tenant file names?"
            )
        return vectors


def _translated(failure: InvocationFailure) -> AssistantError:
    if failure.overloaded:
        return OverloadedError("The embedding endpoint is overloaded; ask again later.", retry_after_s=1.0)
    if failure.container_status == 413 and failure.container_error == "Validation":
        return PassageTooLongError("A text is over the embedding model's limit; it is not cut.")
    return EmbeddingUnavailableError(f"The embedding endpoint failed: {failure}.")


class _FirstErrorGroup(asyncio.TaskGroup):
    """A task group that raises its first error alone: callers catch the port's errors by name."""

    async def __aexit__(self, *exception: Any) -> None:
        try:
            await super().__aexit__(*exception)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
