"""Model servers as real processes with the packaged weights, each started once for all tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import orjson
import pytest

from assistant.domain.clock import Deadline
from assistant.process.settings import ModelServerSettings, inherited_environment

STOP_LIMIT_S = 30.0
"""SageMaker kills a container that long after SIGTERM."""
Task = Literal["embedding", "generation"]


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]
    settings: ModelServerSettings
    log: Path

    def stop(self) -> int:
        """Send SIGTERM and return the status. Raises TimeoutExpired when it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_LIMIT_S)


class ServerEmbedder:
    """``TextEmbedder`` over a model server, 32 texts a call."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        del deadline
        vectors: list[list[float]] = []
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            for start in range(0, len(texts), 32):
                body = {"inputs": texts[start : start + 32], "normalize": True}
                vectors += (await client.post("/invocations", json=body)).raise_for_status().json()
        return vectors


Start = Callable[..., AbstractContextManager[Server]]


@contextmanager
def running(settings: ModelServerSettings, log: Path) -> Generator[Server]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "assistant.model_server"],
            env=inherited_environment() | settings.environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        ready = orjson.loads(line)
        yield Server(f"http://{ready['host']}:{ready['port']}", process, settings, log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def artifacts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def start(artifacts_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a server of the packaged weights, or of others by ``path``."""

    def started(task: Task, **settings: Any) -> AbstractContextManager[Server]:
        chosen = ModelServerSettings(task=task, port=0, **{"artifacts_dir": artifacts_dir, **settings})
        return running(chosen, tmp_path_factory.mktemp("logs") / "stderr")

    return started


@pytest.fixture(scope="session")
def embedding(start: Start) -> Generator[Server]:
    with start("embedding") as server:
        yield server


@pytest.fixture(scope="session")
def generation(start: Start) -> Generator[Server]:
    with start("generation") as server:
        yield server


@pytest.fixture(scope="session")
def narrow(start: Start) -> Generator[Server]:
    """An LLM with one slot and one place to wait."""
    with start("generation", slots=1, queue_size=1, context_tokens=1024) as server:
        yield server


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as opened:
        yield opened
