"""The processes of the production embedding path, started for a benchmark: model server, gateway, worker."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import orjson
import psutil

from assistant.settings.process import (
    GatewaySettings,
    ModelServerSettings,
    WorkerSettings,
    inherited_environment,
)

TENANT = "bench"
ENDPOINT = "embedding"
_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
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

    def write_tenant(self) -> None:
        self.tenants_dir.mkdir(parents=True, exist_ok=True)
        lines = ["schema_version = 1", f'name = "{TENANT}"', 'display_name = "Benchmark"']
        (self.tenants_dir / f"{TENANT}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(slots=True)
class Process:
    """One started process and what its ready line said."""

    popen: subprocess.Popen[bytes]
    ready: Mapping[str, object]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ready['port']}"


@dataclass(slots=True)
class EmbeddingPath:
    """The endpoint behind its gateway, and the worker in front of both."""

    gateway_url: str
    processes: dict[str, Process] = field(default_factory=dict[str, Process])


@contextmanager
def embedding_path(layout: BenchLayout, *, with_worker: bool) -> Generator[EmbeddingPath]:
    """Start what embeds, and the worker when asked for; stop all at the end."""
    signal.signal(signal.SIGTERM, _leave)  # so that the processes are stopped then too
    logs = layout.state_dir / "logs"
    model = ModelServerSettings(task="embedding", port=0, artifacts_dir=layout.models_dir)
    with ExitStack() as stack:
        server = stack.enter_context(running("model_server", model.environment(), logs))
        gateway_settings = GatewaySettings(port=0, endpoints={ENDPOINT: server.url})
        gateway = stack.enter_context(running("local.gateway", gateway_settings.environment(), logs))
        path = EmbeddingPath(gateway.url, {"model_server": server, "local.gateway": gateway})
        if with_worker:
            worker = WorkerSettings(
                tenants_dir=layout.tenants_dir,
                state_dir=layout.state_dir,
                model_artifacts_dir=layout.models_dir,
                sagemaker_endpoint_url=gateway.url,
            )
            path.processes["local.knowledge_worker"] = stack.enter_context(
                running("local.knowledge_worker", worker.environment(), logs)
            )
        yield path


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit("stopped")


@contextmanager
def running(room: str, environment: Mapping[str, str], logs: Path) -> Generator[Process]:
    """Run ``python -m assistant.<room>`` until the end of the block; it logs into the folder ``logs``."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{room}.log"
    with log.open("ab") as stderr:
        popen = subprocess.Popen(
            [sys.executable, "-m", f"assistant.{room}"],
            env={**inherited_environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield Process(popen, _ready_line(popen, log))
    finally:
        popen.terminate()
        try:
            popen.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        if popen.stdout is not None:
            popen.stdout.close()


def _ready_line(popen: subprocess.Popen[bytes], log: Path) -> Mapping[str, object]:
    assert popen.stdout is not None
    readable, _, _ = select.select([popen.stdout], [], [], _READY_TIMEOUT_S)
    line = popen.stdout.readline() if readable else b""
    if not line:
        raise SystemExit(f"A process did not get ready within {_READY_TIMEOUT_S:.0f} s; see {log}.")
    return cast("Mapping[str, object]", orjson.loads(line))


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
