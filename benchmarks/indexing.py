"""How fast documents become searchable, through the production path, and what a second run costs.

    python -m benchmarks.indexing --documents medquad.jsonl.gz [--keep FOLDER]

The worker process reads the queue, parses and cuts, embeds through the SageMaker client, the gateway and
the model server, and writes the index. The second run goes through the command line, as a user's would.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.files import read_sources
from assistant.knowledge.ports import DocumentStates
from assistant.knowledge.sources import KnowledgeSources, Writer
from assistant.settings.process import inherited_environment
from assistant.settings.tenant import load_tenant
from assistant.wiring.stores import open_stores
from benchmarks.local_embedding import (
    TENANT,
    BenchLayout,
    ProcessSampler,
    embedding_path,
    folder_bytes,
    machine_line,
)

_DONE = (DocumentState.LIVE, DocumentState.FAILED, DocumentState.STALE)
_POLL_S = 0.25
_TIME_LIMIT_S = 3600.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class IndexingFigures:
    """What one first run and the unchanged second one cost."""

    documents: int
    live: int
    passages: int
    tokens: int
    seconds: float
    """From the first document taken in to the last one live."""
    peak_bytes: int
    """Resident memory of all processes, summed at one moment."""
    peaks_bytes: Mapping[str, int]
    cpu_s: Mapping[str, float]
    stored_bytes: int
    """Documents, states and index."""
    second_seconds: float
    """By the command line, from its start to its end."""
    second_embedded: int
    machine: str

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def documents_per_s(self) -> float:
        return self.live / self.seconds

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        cpu_s = sum(self.cpu_s.values())
        return [
            f"documents       {self.live} live of {self.documents}, in {self.seconds:.1f} s",
            f"passages        {self.passages} of {self.tokens} tokens",
            f"passage tokens  {self.tokens_per_s:,.0f} a second",
            f"documents       {self.documents_per_s:,.1f} a second",
            f"stored          {self.stored_bytes / _MIB:.0f} MiB of documents, states and index",
            f"peak memory     {self.peak_bytes / _MIB:.0f} MiB summed at one moment",
            *(
                f"                {peak / _MIB:.0f} MiB, {self.cpu_s[name]:.1f} processor s {name}"
                for name, peak in self.peaks_bytes.items()
            ),
            f"processor       {cpu_s:.1f} s: {self.tokens / cpu_s:,.0f} tokens a processor second",
            f"second run      {self.second_seconds:.1f} s by command line, {self.second_embedded} embedded",
            f"machine         {self.machine}",
        ]


def measure_indexing(documents: Path, *, layout: BenchLayout) -> IndexingFigures:
    """Index the documents into the layout's empty tenant, then add them again unchanged."""
    layout.write_tenant()
    if (layout.state_dir / "tenants").exists():
        raise SystemExit(f"{layout.root}: there is an index already; name an empty folder.")
    before = machine_line()
    with embedding_path(layout, with_worker=True) as path:
        pids = {name: process.popen.pid for name, process in path.processes.items()}
        with ProcessSampler({**pids, "adding": os.getpid()}) as used:
            statuses, seconds = asyncio.run(_add_and_wait(layout, documents))
    live = [status for status in statuses if status.state == DocumentState.LIVE]
    after = machine_line()
    second_seconds, second_embedded = _add_again(layout, documents)
    return IndexingFigures(
        documents=len(statuses),
        live=len(live),
        passages=sum(status.passage_count for status in live),
        tokens=sum(status.token_count for status in live),
        seconds=seconds,
        peak_bytes=used.peak_sum,
        peaks_bytes=used.peaks,
        cpu_s=used.cpu_s,
        stored_bytes=folder_bytes(layout.state_dir / "tenants"),
        second_seconds=second_seconds,
        second_embedded=second_embedded,
        machine=f"before: {before}; after: {after}",
    )


async def _add_and_wait(layout: BenchLayout, documents: Path) -> tuple[list[DocumentStatus], float]:
    """Add all documents and wait until the worker is done with the last."""
    tenant = load_tenant(layout.tenants_dir / f"{TENANT}.toml")
    async with open_stores(tenant, state_dir=layout.state_dir) as stores:
        began_s = time.monotonic()
        add = AddDocuments(stores.knowledge, clock=SystemClock())
        source = KnowledgeSources.of(tenant).named(None)
        summary = await add(read_sources([documents]), source=source, writer=Writer("benchmark"))
        await _wait_until_done(stores.knowledge.states, count=len(summary.enqueued_ids))
        seconds = time.monotonic() - began_s
        return await _all_statuses(stores.knowledge.states), seconds


async def _wait_until_done(states: DocumentStates, *, count: int) -> None:
    give_up_s = time.monotonic() + _TIME_LIMIT_S
    shown_s = time.monotonic()
    while time.monotonic() < give_up_s:
        counts = await states.count_by_state()
        done = sum(counts.get(state, 0) for state in _DONE)
        if done >= count:
            return
        if time.monotonic() - shown_s > 15:
            shown_s = time.monotonic()
            print(f"                {done} of {count}", flush=True)
        await asyncio.sleep(_POLL_S)
    raise SystemExit(f"not done within {_TIME_LIMIT_S:.0f} s")


async def _all_statuses(states: DocumentStates) -> list[DocumentStatus]:
    found: list[DocumentStatus] = []
    after: str | None = None
    while page := await states.list(after=after, limit=1000):
        found += page
        after = page[-1].document_id
    return found


def _add_again(layout: BenchLayout, documents: Path) -> tuple[float, int]:
    """Add the same documents by the command line; return its seconds and the documents that it embedded."""
    command = [str(Path(sys.executable).with_name("assistant"))]
    command += ["--tenants", str(layout.tenants_dir), "--state", str(layout.state_dir), "--json"]
    command += ["knowledge", "add", "--tenant", TENANT, str(documents)]
    began_s = time.monotonic()
    ran = subprocess.run(command, env=inherited_environment(), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began_s
    if ran.returncode != 0:
        raise SystemExit(f"the second run failed: {ran.stderr.strip()}")
    report = orjson.loads(ran.stdout)
    return seconds, report["documents"] - report["unchanged"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="build here and keep it, for benchmarks.retrieval")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(arguments.keep or Path(scratch))
        layout.root.mkdir(parents=True, exist_ok=True)
        print(*measure_indexing(arguments.documents, layout=layout).lines(), sep="\n")


if __name__ == "__main__":
    main()
