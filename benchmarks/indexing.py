"""How fast documents become searchable, through the production path, and what a second run costs.

    python -m benchmarks.indexing --documents medquad.jsonl.gz [--keep FOLDER]

The worker process reads the queue, parses and cuts, embeds, and writes the index. The second run goes through
the command line, as a user's would.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import orjson

from assistant.documents.files import SourceDocument, read_sources
from assistant.documents.passages import InProcessParser, ParsedParts, Received
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSources, Writer
from assistant.documents.work import EmbeddingLimits
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.model_server.here import ModelsHere
from assistant.models.artifacts import TOKENIZER_FILE
from assistant.process.settings import ProcessSettings, WorkerSettings, inherited_environment
from assistant.stores.documents import StoredStates
from assistant.stores.opened import open_stores
from assistant.tenant.tenant import load_tenant
from tools.processes import Started, end_on_signals, started
from tools.tables import Figure, machine_line, print_figures

TENANT = "bench"
ENDPOINT = "embedding"
_READY_TIMEOUT_S = 120.0
_TIME_LIMIT_S = 3600.0
_DONE = (DocumentState.LIVE, DocumentState.FAILED, DocumentState.STALE)
_POLL_S = 0.25
_TELL_EVERY_S = 15.0
_MIB = 1024 * 1024


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

    def write_tenant(self, more: str = "") -> None:
        """Write the one tenant's file; ``more``: further tables of it."""
        self.tenants_dir.mkdir(parents=True, exist_ok=True)
        lines = ["schema_version = 1", f'name = "{TENANT}"', 'display_name = "Benchmark"', more]
        (self.tenants_dir / f"{TENANT}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def worker(self) -> AbstractContextManager[Started]:
        """Run the worker that indexes into the embedded engine."""
        settings = WorkerSettings(
            tenants_dir=self.tenants_dir,
            state_dir=self.state_dir,
            model_artifacts_dir=self.models_dir,
            models="embedded",
        )
        return self.started("laptop.worker", settings)


def measure_indexing(documents: Path, *, layout: BenchLayout) -> list[Figure]:
    """Index the documents into the layout's empty tenant, then add them again unchanged."""
    layout.write_tenant()
    if (layout.state_dir / "tenants").exists():
        raise SystemExit(f"{layout.root}: there is an index already; name an empty folder.")
    end_on_signals()
    with layout.worker() as worker:
        started_cpu_s = worker.cpu_s() + time.process_time()
        statuses, seconds = asyncio.run(add_and_wait(layout, documents))
        own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak_bytes = own_bytes + worker.peak_bytes()
        children = resource.getrusage(resource.RUSAGE_CHILDREN)  # what read the files
        cpu_s = worker.cpu_s() + time.process_time()
        cpu_s += children.ru_utime + children.ru_stime - started_cpu_s
    bare_s, bare_cpu_s = asyncio.run(_embed_bare(layout, documents))
    stored = sum(path.stat().st_size for path in (layout.state_dir / "tenants").rglob("*") if path.is_file())
    live = [status for status in statuses if status.state == DocumentState.LIVE]
    tokens = sum(status.token_count for status in live)
    second_s, embedded = _add_again(layout, documents)
    return [
        Figure(
            f"embedding and indexing of {len(statuses):,} documents, {tokens:,} passage tokens",
            "≥ 12,000 tokens/s",
            f"{tokens / seconds:,.0f} tokens/s, {len(live) / seconds:.0f} documents/s, {cpu_s:.0f} s of CPU",
            tokens / seconds >= 12_000,
        ),
        Figure(
            "the same against embedding its texts alone, by the same model",
            "≥ 70 %",
            f"{bare_s / seconds:.0%} by time, {bare_cpu_s / cpu_s:.0%} by CPU time",
            bare_s >= 0.7 * seconds,
        ),
        Figure(
            "documents live",
            "all",
            f"{len(live):,} of {len(statuses):,}",
            len(live) == len(statuses),
            timed=False,
        ),
        Figure("documents, states and index on disk", "", f"{stored / _MIB:,.0f} MiB", holds=True),
        Figure(
            "memory of all its processes, each at its peak",
            "≤ 1.5 GiB",
            f"{peak_bytes / _MIB:,.0f} MiB",
            peak_bytes <= 1.5 * 1024 * _MIB,
        ),
        Figure(
            "second run over them unchanged, by command line",
            "≤ 15 s",
            f"{second_s:.1f} s",
            second_s <= 15,
        ),
        Figure("documents that it embedded", "none", f"{embedded}", embedded == 0, timed=False),
    ]


async def add_and_wait(layout: BenchLayout, documents: Path) -> tuple[list[DocumentStatus], float]:
    """Add all documents and wait until the worker is done with the last."""
    tenant = load_tenant(layout.tenants_dir / f"{TENANT}.toml")
    async with open_stores(tenant, state_dir=layout.state_dir) as stores:
        began_s = time.monotonic()
        add = AddDocuments(stores.knowledge, clock=SystemClock())
        source = KnowledgeSources.of(tenant).named(None)
        summary = await add(read_sources([documents]), source=source, writer=Writer("benchmark"))
        await _wait_until_done(stores.knowledge.states, count=len(summary.enqueued_ids))
        seconds = time.monotonic() - began_s
        statuses: list[DocumentStatus] = []
        while page := await stores.knowledge.states.list(
            after=statuses[-1].document_id if statuses else None, limit=1000
        ):
            statuses += page
        return statuses, seconds


async def _wait_until_done(states: StoredStates, *, count: int) -> None:
    began_s = told_s = time.monotonic()
    while time.monotonic() < began_s + _TIME_LIMIT_S:
        counts = await states.count_by_state()
        done = sum(counts.get(state, 0) for state in _DONE)
        if done >= count:
            return
        if time.monotonic() - told_s > _TELL_EVERY_S:
            told_s = time.monotonic()
            print(f"{done} of {count}", file=sys.stderr, flush=True)
        await asyncio.sleep(_POLL_S)
    raise SystemExit(f"not done within {_TIME_LIMIT_S:.0f} s")


async def _embed_bare(layout: BenchLayout, documents: Path) -> tuple[float, float]:
    """Embed the texts of the documents in this process, as many at once as a load does and nothing beside it;
    return the seconds, and those of CPU."""
    tenant, limits = load_tenant(layout.tenants_dir / f"{TENANT}.toml"), EmbeddingLimits()
    tokenizer = layout.models_dir / tenant.embedding.model / TOKENIZER_FILE
    parser = InProcessParser.load(
        tokenizer, max_tokens=tenant.embedding.max_tokens, language_code=tenant.language
    )
    read = [item.document for item in read_sources([documents]) if isinstance(item, SourceDocument)]
    parsed = parser.parse([Received(each, each.content_hash(), SystemClock().now()) for each in read])
    texts = [text for parts in parsed if isinstance(parts, ParsedParts) for text in parts.texts]
    size, free = limits.passages_per_request, asyncio.Semaphore(limits.requests_in_flight)
    models = ModelsHere(layout.models_dir)
    embedder = await models.embedder(tenant.embedding)
    deadline = Deadline.after(_TIME_LIMIT_S, clock=SystemClock())

    async def embed(inputs: Sequence[str]) -> None:
        async with free:
            await embedder.embed(inputs, deadline=deadline)

    began_s, used_s = time.monotonic(), time.process_time()
    await asyncio.gather(*(embed(texts[start : start + size]) for start in range(0, len(texts), size)))
    models.close()
    return time.monotonic() - began_s, time.process_time() - used_s


def _add_again(layout: BenchLayout, documents: Path) -> tuple[float, int]:
    """Add the same documents by the command line; return its seconds and the documents that it embedded."""
    command = [str(Path(sys.executable).with_name("assistant"))]
    command += ["--tenants", str(layout.tenants_dir), "--state", str(layout.state_dir), "--json"]
    command += ["knowledge", "add", "--tenant", TENANT, str(documents)]
    began_s = time.monotonic()
    ran = subprocess.run(
        command,
        env=inherited_environment(),
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT_S,
        check=False,
    )
    if ran.returncode != 0:
        raise SystemExit(f"the second run failed: {ran.stderr.strip()}")
    report = orjson.loads(ran.stdout)
    return time.monotonic() - began_s, report["documents"] - report["unchanged"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="build here and keep it, for benchmarks.retrieval")
    given, before = parser.parse_args(), machine_line()
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(given.keep or Path(scratch))
        layout.root.mkdir(parents=True, exist_ok=True)
        figures = measure_indexing(given.documents, layout=layout)
        return print_figures(figures, before=before)


if __name__ == "__main__":
    raise SystemExit(main())
