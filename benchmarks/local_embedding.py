"""The processes of the production embedding path, started for a benchmark: model server, gateway, worker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from assistant.settings.process import GatewaySettings, ModelServerSettings, ProcessSettings, WorkerSettings
from tools.processes import Started, end_on_signals, started

TENANT = "bench"
ENDPOINT = "embedding"
_READY_TIMEOUT_S = 120.0
_SAMPLE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class BenchLayout:
    """Where a benchmark keeps its one tenant and its state."""

    root: Path

    @property
    def tenants_dir(self) -> Path:
        return self.root / "tenants"

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    @property
    def models_dir(self) -> Path:
        return self.state_dir / "models"

    def started(self, room: str, settings: ProcessSettings) -> AbstractContextManager[Started]:
        """Run ``python -m assistant.<room>``; it logs below the state folder."""
        return started(
            f"assistant.{room}",
            log=self.state_dir / "logs" / f"{room}.log",
            environment=settings.environment(),
            timeout_s=_READY_TIMEOUT_S,
        )

    def write_tenant(self) -> None:
        self.tenants_dir.mkdir(parents=True, exist_ok=True)
        lines = ["schema_version = 1", f'name = "{TENANT}"', 'display_name = "Benchmark"']
        (self.tenants_dir / f"{TENANT}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(slots=True)
class EmbeddingPath:
    """The endpoint behind its gateway, and the worker in front of both."""

    gateway_url: str
    processes: dict[str, Started] = field(default_factory=dict[str, Started])


@contextmanager
def embedding_path(layout: BenchLayout, *, with_worker: bool) -> Generator[EmbeddingPath]:
    """Start what embeds, and the worker when asked for; stop all at the end."""
    end_on_signals()
    model = ModelServerSettings(task="embedding", port=0, artifacts_dir=layout.models_dir)
    with ExitStack() as stack:
        server = stack.enter_context(layout.started("model_server", model))
        gateway_settings = GatewaySettings(port=0, endpoints={ENDPOINT: server.url})
        gateway = stack.enter_context(layout.started("local.gateway", gateway_settings))
        path = EmbeddingPath(gateway.url, {"model_server": server, "local.gateway": gateway})
        if with_worker:
            worker = WorkerSettings(
                tenants_dir=layout.tenants_dir,
                state_dir=layout.state_dir,
                model_artifacts_dir=layout.models_dir,
                sagemaker_endpoint_url=gateway.url,
            )
            name = "local.knowledge_worker"
            path.processes[name] = stack.enter_context(layout.started(name, worker))
        yield path


class ProcessSampler:
    """Of some processes: peak resident memory in bytes, each and summed at one moment, and processor time.

    Processor seconds compare runs also on a machine that does other things.
    """

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peaks: dict[str, int] = dict.fromkeys(processes, 0)
        self.peak_sum = 0
        self.cpu_s: dict[str, float] = {}

    def __enter__(self) -> ProcessSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        times = {name: process.cpu_times() for name, process in self._processes.items()}
        self.cpu_s = {name: used.user + used.system for name, used in times.items()}

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            sizes = {name: process.memory_info().rss for name, process in self._processes.items()}
            self.peaks = {name: max(self.peaks[name], size) for name, size in sizes.items()}
            self.peak_sum = max(self.peak_sum, sum(sizes.values()))


def machine_line() -> str:
    """Say on what was measured: cores and the load averages of now."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, load {load} at {time.strftime('%H:%M:%S')}"


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
