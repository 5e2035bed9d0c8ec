"""Models that run in the process that uses them, without a server between (``models = embedded`` in the
settings)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, DeadlineExceededError, EmbeddingUnavailableError
from assistant.model_server.artifact import (
    TOKENIZER_FILE,
    artifact_folder,
    ensure_artifact,
    read_artifact,
)
from assistant.model_server.embedding import EmbeddingEngine, EmbeddingTask
from assistant.model_server.embedding_graph import Floats
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings
from assistant.tenant.added_models import MANIFEST_FILE
from assistant.tenant.tenant import EmbeddingSection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbedderHere:
    """A ``TextEmbedder`` over a model in this process."""

    models: ModelsHere
    task: asyncio.Future[EmbeddingTask]
    """The task that loads the model; it belongs to the loop of ``models``."""
    dimensions: int
    embedded: Callable[[int], None] | None = None
    """Called after each call with the number of its texts; for metrics."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, PassageTooLongError, DeadlineExceededError.
        """
        if not texts:
            return []
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                vectors = await self.models.in_loop(self._embed(texts))
        except TimeoutError:
            raise DeadlineExceededError("The deadline passed while text was embedded.") from None
        except ArithmeticError as error:
            raise EmbeddingUnavailableError(f"The embedding model failed: {error}.") from None
        if vectors.shape[1] != self.dimensions:
            raise EmbeddingUnavailableError(
                f"The embedding model returned vectors of {vectors.shape[1]} numbers, not {self.dimensions}: "
                "is it the model that the tenant file names?"
            )
        if self.embedded is not None:
            self.embedded(len(texts))
        return vectors.tolist()

    async def _embed(self, texts: Sequence[str]) -> Floats:
        """Embed in the loop of ``models``. A caller that is cancelled does not cancel the loading."""
        try:
            task = await asyncio.shield(self.task)
        except AssistantError as error:
            raise EmbeddingUnavailableError(f"The embedding model was not loaded. {error.message}") from None
        return await task.embed(texts)


class ModelsHere:
    """Loads each model when it is first needed, and shares it among the tenants of the process.

    It works in the loop that it is made in; public methods may be called from another thread's loop, too.
    Call ``prepare`` for an embedding model before ``embedder``.
    """

    def __init__(self, artifacts_dir: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._artifacts_dir = artifacts_dir
        self._built: set[tuple[str, int]] = set()
        self._engines: dict[str, EmbeddingEngine] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[EmbeddingTask]] = {}
        self._loading = asyncio.Lock()

    async def in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine that runs in the loop of the models."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def prepare(self, section: EmbeddingSection) -> None:
        """Build the artifact of an embedding model where it is missing. Raises ConfigurationError,
        LocalRuntimeError."""
        await self.in_loop(self._build(section))

    async def embedder(self, section: EmbeddingSection) -> EmbedderHere:
        """Return the embedder of a prepared model. The model loads in the background; the first ``embed``
        waits."""
        return EmbedderHere(self, await self.in_loop(self._begin(section)), section.dimensions)

    async def _begin(self, section: EmbeddingSection) -> asyncio.Task[EmbeddingTask]:
        """Return the task that loads the model; the first call for a model and limit begins it."""
        key = section.model, section.max_tokens
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._load(section))
        return self._tasks[key]

    async def _load(self, section: EmbeddingSection) -> EmbeddingTask:
        async with self._loading:
            return await asyncio.to_thread(self._task, section)

    async def _build(self, section: EmbeddingSection) -> None:
        key = section.model, section.max_tokens
        async with self._loading:
            if key not in self._built:
                await asyncio.to_thread(lambda: ensure_artifact(self._settings(section)))
                self._built.add(key)

    def close(self) -> None:
        """Stop all engines."""
        for engine in self._engines.values():
            engine.close()

    def _settings(self, section: EmbeddingSection) -> ModelServerSettings:
        """Return the settings by which a server would load the model: an added one has a manifest here."""
        manifest = self._artifacts_dir / section.model / MANIFEST_FILE
        settings = ModelServerSettings.read(
            task="embedding",
            manifest=manifest if manifest.is_file() else None,
            artifacts_dir=self._artifacts_dir,
        )
        # Tenants may have different limits: the artifact gets the highest of them, and each embedder its own.
        built = read_artifact(artifact_folder(settings, locate_weights(settings)))
        longest = max(section.max_tokens, 0 if built is None else built.max_input_tokens)
        return settings.model_copy(update={"max_input_tokens": longest})

    def _task(self, section: EmbeddingSection) -> EmbeddingTask:
        """Load the model, unless its engine runs already for another limit. Runs in a thread."""
        settings = self._settings(section)
        weights = locate_weights(settings)
        if weights.name not in self._engines:
            self._engines[weights.name] = EmbeddingEngine.started(weights, settings)
        tokenizer = Tokenizer.from_file(str(artifact_folder(settings, weights) / TOKENIZER_FILE))
        limit = section.max_tokens
        return EmbeddingTask(self._engines[weights.name], tokenizer=tokenizer, max_input_tokens=limit)
