"""How fast documents become searchable, through the production path, and what a second run costs.

    python -m benchmarks.indexing --documents medquad.jsonl.gz [--keep FOLDER]

The worker process reads the queue, parses the documents, cuts them into passages, embeds these, and writes
the index. The second run adds the same documents by ``assistant knowledge add``, as a user would. The targets
are those of docs/benchmarks.md. ``benchmarks.retrieval`` and ``benchmarks.load`` use ``BenchLayout`` too.
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
_READY_TIMEOUT_S = 120.0
_TIME_LIMIT_S = 3600.0
_END_STATES = (DocumentState.LIVE, DocumentState.FAILED, DocumentState.STALE)
_POLL_S = 0.25
_PROGRESS_EVERY_S = 15.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BenchLayout:
    """Folders of a benchmark: ``root/tenants/bench.toml``, and ``root/state`` with index, logs and models."""

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

    def started(
        self, module: str, settings: ProcessSettings, *, plan: str | None = None
    ) -> AbstractContextManager[Started]:
        """Run ``python -m <module>`` (``assistant.laptop.worker``) until the block ends; it logs below the
        state folder. Raises SystemExit where it is not ready in time."""
        return started(
            module,
            log=self.state_dir / "logs" / f"{module}.log",
            plan=plan,
            environment=settings.environment(),
            timeout_s=_READY_TIMEOUT_S,
        )

    def write_tenant(self, more: str = "", *, tenant: str = TENANT) -> None:
        """Write the tenant file; ``more``: further TOML for its end, such as a table ``[limits]``."""
        self.tenants_dir.mkdir(parents=True, exist_ok=True)
        lines = ["schema_version = 1", f'name = "{tenant}"', 'display_name = "Benchmark"', more]
        (self.tenants_dir / f"{tenant}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def worker_settings(self) -> WorkerSettings:
        """Of the worker that indexes into the embedded engine."""
        return WorkerSettings(
            tenants_dir=self.tenants_dir,
            state_dir=self.state_dir,
            model_artifacts_dir=self.models_dir,
            models="embedded",
        )

    def worker(self) -> AbstractContextManager[Started]:
        """Run that worker."""
        return self.started("assistant.laptop.worker", self.worker_settings)


def measure_indexing(documents: Path, *, layout: BenchLayout) -> list[Figure]:
    """Index the documents into the layout's empty tenant, embed their texts alone to compare, then add them
    again unchanged. Raises SystemExit where the layout has an index already."""
    layout.write_tenant()
    if (layout.state_dir / "tenants").exists():
        raise SystemExit(f"{layout.root}: there is an index already; name an empty folder.")
    end_on_signals()
    with layout.worker() as worker:
        cpu_before_s = worker.cpu_s() + time.process_time()
        statuses, load_s = asyncio.run(add_and_wait(layout, documents))
        benchmark_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peak_bytes = benchmark_bytes + worker.peak_bytes()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # the parsing process that read the files
        cpu_s = worker.cpu_s() + time.process_time()
        cpu_s += ended.ru_utime + ended.ru_stime - cpu_before_s
    bare_s, bare_cpu_s = asyncio.run(_embed_bare(layout, documents))
    stored = sum(path.stat().st_size for path in (layout.state_dir / "tenants").rglob("*") if path.is_file())
    live = [status for status in statuses if status.state == DocumentState.LIVE]
    tokens = sum(status.token_count for status in live)
    again_s, repeated = _add_again(layout, documents)
    return [
        Figure(
            f"embedding and indexing of {len(statuses):,} documents, {tokens:,} passage tokens",
            "≥ 12,000 tokens/s",
            f"{tokens / load_s:,.0f} tokens/s, {len(live) / load_s:.0f} documents/s, {cpu_s:.0f} s of CPU",
            tokens / load_s >= 12_000,
        ),
        Figure(
            "the same against embedding its texts alone, by the same model",
            "≥ 70 %",
            f"{bare_s / load_s:.0%} by time, {bare_cpu_s / cpu_s:.0%} by CPU time",
            bare_s >= 0.7 * load_s,
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
            f"{again_s:.1f} s",
            again_s <= 15,
        ),
        Figure("documents that it embedded", "none", f"{repeated}", repeated == 0, timed=False),
    ]


async def add_and_wait(
    layout: BenchLayout, documents: Path, *, tenant: str = TENANT
) -> tuple[list[DocumentStatus], float]:
    """Add all documents and wait until the worker is done with the last; return the statuses and the
    seconds."""
    loaded = load_tenant(layout.tenants_dir / f"{tenant}.toml")
    async with open_stores(loaded, state_dir=layout.state_dir) as stores:
        began_s = time.monotonic()
        add = AddDocuments(stores.knowledge, clock=SystemClock())
        source = KnowledgeSources.of(loaded).named(None)  # the tenant's default source
        summary = await add(read_sources([documents]), source=source, writer=Writer("benchmark"))
        await _wait_until_done(stores.knowledge.states, count=len(summary.enqueued_ids))
        elapsed_s = time.monotonic() - began_s
        statuses: list[DocumentStatus] = []
        while page := await stores.knowledge.states.list(
            after=statuses[-1].document_id if statuses else None, limit=1000
        ):
            statuses += page
        return statuses, elapsed_s


async def _wait_until_done(states: StoredStates, *, count: int) -> None:
    """Wait until ``count`` documents are in an end state; print the progress to stderr."""
    began_s = told_s = time.monotonic()
    while time.monotonic() < began_s + _TIME_LIMIT_S:
        counts = await states.count_by_state()
        done = sum(counts.get(state, 0) for state in _END_STATES)
        if done >= count:
            return
        if time.monotonic() - told_s > _PROGRESS_EVERY_S:
            told_s = time.monotonic()
            print(f"{done} of {count}", file=sys.stderr, flush=True)
        await asyncio.sleep(_POLL_S)
    raise SystemExit(f"not done within {_TIME_LIMIT_S:.0f} s")


async def _embed_bare(layout: BenchLayout, documents: Path) -> tuple[float, float]:
    """Embed the texts of the documents in this process, in the batches and with the concurrency of the
    worker, but without storing anything; return the seconds and the CPU seconds of the embedding."""
    tenant, limits = load_tenant(layout.tenants_dir / f"{TENANT}.toml"), EmbeddingLimits()
    tokenizer = layout.models_dir / tenant.embedding.model / TOKENIZER_FILE
    parser = InProcessParser.load(
        tokenizer, max_tokens=tenant.embedding.max_tokens, language_code=tenant.language
    )
    sources = [item.document for item in read_sources([documents]) if isinstance(item, SourceDocument)]
    parsed = parser.parse([Received(item, item.content_hash(), SystemClock().now()) for item in sources])
    texts = [text for parts in parsed if isinstance(parts, ParsedParts) for text in parts.texts]
    size, slots = limits.passages_per_request, asyncio.Semaphore(limits.requests_in_flight)
    models = ModelsHere(layout.models_dir)
    embedder = await models.embedder(tenant.embedding)
    deadline = Deadline.after(_TIME_LIMIT_S, clock=SystemClock())

    async def embed(batch: Sequence[str]) -> None:
        async with slots:
            await embedder.embed(batch, deadline=deadline)

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    await asyncio.gather(*(embed(texts[start : start + size]) for start in range(0, len(texts), size)))
    models.close()
    return time.monotonic() - began_s, time.process_time() - began_cpu_s


def _add_again(layout: BenchLayout, documents: Path) -> tuple[float, int]:
    """Add the same documents by the command line; return its seconds and the number of documents that were
    embedded again."""
    command = [str(Path(sys.executable).with_name("assistant"))]
    command += ["--tenants", str(layout.tenants_dir), "--state", str(layout.state_dir), "--json"]
    command += ["knowledge", "add", "--tenant", TENANT, str(documents)]
    began_s = time.monotonic()
    completed = subprocess.run(
        command,
        env=inherited_environment(),
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT_S,
        check=False,
    )
    if completed.returncode != 0:
        raise SystemExit(f"the second run failed: {completed.stderr.strip()}")
    report = orjson.loads(completed.stdout)
    return time.monotonic() - began_s, report["documents"] - report["unchanged"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="build here and keep it, for benchmarks.retrieval")
    options, before = parser.parse_args(), machine_line()
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(options.keep or Path(scratch))
        layout.root.mkdir(parents=True, exist_ok=True)
        figures = measure_indexing(options.documents, layout=layout)
        return print_figures(figures, before=before)


if __name__ == "__main__":
    raise SystemExit(main())
