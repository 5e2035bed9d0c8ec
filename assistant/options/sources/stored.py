"""Runs of sources, and the lock that lets one run of a source read at a time."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.domain.errors import DependencyError
from assistant.options.sources.ports import SourceRun
from assistant.stores.store import LockOf, Store, TableOf
from assistant.stores.table import Range, Table, keyed

_RUNS = "source-runs"


class StoredSourceRuns:
    """The last run of each source of one tenant into each place."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put_run(self, run: SourceRun) -> None:
        """Store the run in place of the last one of its key. Raises DependencyError."""
        await self._table.put_many([keyed((_RUNS, run.key), body=run.model_dump_json())])

    async def runs(self) -> Sequence[SourceRun]:
        """Return the last run of each key, in order of keys. Raises DependencyError."""
        items = await self._table.query(Range(_RUNS))
        return [SourceRun.model_validate_json(item["body"]) for item in items]


SOURCE_RUNS = Store(
    TableOf("connectors.sqlite", "states_table", DependencyError), lambda table, _: StoredSourceRuns(table)
)


def turn_of(source: str, *, lasts_s: float = 0.0) -> LockOf:
    """Return the lock of a source's connector, which on AWS lasts so long after a holder that was killed."""
    return LockOf(
        f"connector-{source}.lock",
        key=f"source:{source}",
        late=f"Another run of {source} reads, or was killed. It is tried again when the next one is due.",
        late_here=f"Another run of {source} reads. Wait until it ends.",
        waits_s=0.5,
        lasts_s=lasts_s,
    )
