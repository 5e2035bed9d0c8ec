"""How fast documents become searchable, through the production path, and what a second run costs.

    python -m benchmarks.indexing --documents medquad.jsonl.gz [--limit N] [--keep FOLDER]

The worker process reads the queue, parses and cuts, embeds through the SageMaker client, the gateway and
the model server, and writes the index. The second run goes through the command line, as a user's would.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from assistant.bootstrap import open_stores
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.ingesting.add_documents import AddDocuments, AddSummary
from assistant.ingesting.ports import DocumentStates
from assistant.ingesting.sources.reader import read_sources
from assistant.settings import inherited_environment, load_tenant
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
class IndexingRun:
    """The figures of one run."""

    summary: AddSummary
    seconds: float
    live: int
    passages: int
    tokens: int

    def lines(self) -> list[str]:
        return [
            f"documents       {self.live} live of {self.summary.documents}, in {self.seconds:.1f} s",
            f"passages        {self.passages}, {self.tokens} tokens",
            f"passage tokens  {self.tokens / self.seconds:,.0f} a second",
            f"documents       {self.live / self.seconds:,.1f} a second",
        ]


async def add_and_wait(layout: BenchLayout, documents: Path) -> IndexingRun:
    """Add all documents and wait until the worker is done with the last."""
    tenant = load_tenant(layout.tenants_dir / f"{TENANT}.toml")
    async with open_stores(tenant, state_dir=layout.state_dir) as stores:
        began_s = time.monotonic()
        add = AddDocuments(stores.knowledge, clock=SystemClock())
        summary = await add(read_sources([documents]))
        print(f"added           in {time.monotonic() - began_s:.1f} s", flush=True)
        await _wait_until_done(stores.knowledge.states, count=len(summary.enqueued_ids))
        seconds = time.monotonic() - began_s
        statuses = await _all_statuses(stores.knowledge.states)
    live = [status for status in statuses if status.state == DocumentState.LIVE]
    return IndexingRun(
        summary=summary,
        seconds=seconds,
        live=len(live),
        passages=sum(status.passage_count for status in live),
        tokens=sum(status.token_count for status in live),
    )


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


def second_run(layout: BenchLayout, documents: Path) -> tuple[float, str]:
    """Add the same documents by the command line; return the seconds and what it printed."""
    command = [str(Path(sys.executable).with_name("assistant"))]
    command += ["--tenants", str(layout.tenants_dir), "--state", str(layout.state_dir), "--json"]
    command += ["knowledge", "add", "--tenant", TENANT, str(documents)]
    began_s = time.monotonic()
    ran = subprocess.run(command, env=inherited_environment(), capture_output=True, text=True, check=False)
    return time.monotonic() - began_s, (ran.stdout or ran.stderr).strip()


def limited(documents: Path, limit: int | None, folder: Path) -> Path:
    """Return a file of every n-th line, so that a short run has the same mixture as the whole."""
    if limit is None:
        return documents
    with gzip.open(documents, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    step = max(1, len(lines) // limit)
    part = folder / "part.jsonl"
    part.write_text("".join(lines[::step][:limit]), encoding="utf-8")
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only so many of them, taken evenly")
    parser.add_argument("--keep", type=Path, help="build here and keep it, for benchmarks.retrieval")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(arguments.keep or Path(scratch))
        layout.write_tenant()
        documents = limited(arguments.documents, arguments.limit, layout.root)
        print(f"machine         {machine_line()}")
        with embedding_path(layout, with_worker=True) as path:
            pids = {name: process.popen.pid for name, process in path.processes.items()}
            with ProcessSampler({**pids, "adding": os.getpid()}) as used:
                run = asyncio.run(add_and_wait(layout, documents))
        print(*run.lines(), sep="\n")
        print(f"index           {folder_bytes(layout.state_dir / 'tenants') / _MIB:.0f} MiB with documents")
        print(f"peak memory     {used.peak_sum / _MIB:.0f} MiB summed at one moment")
        for name, peak in used.peaks.items():
            print(f"                {peak / _MIB:.0f} MiB, {used.cpu_s[name]:.1f} processor s {name}")
        all_cpu_s = sum(used.cpu_s.values())
        print(f"processor       {all_cpu_s:.1f} s: {run.tokens / all_cpu_s:,.0f} tokens a processor second")
        print(f"machine         {machine_line()}")
        seconds, printed = second_run(layout, documents)
        print(f"second run      {seconds:.1f} s by the command line, unchanged")
        print(f"                {printed}")


if __name__ == "__main__":
    main()
