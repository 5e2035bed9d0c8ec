"""What is kept of the runs of sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from assistant.options.sources.run import SourceRun
from tests.fakes.tenant_stores import TenantStores

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


async def test_the_last_run_of_each_source_into_each_place_is_kept(stores: TenantStores) -> None:
    wiki = SourceRun(source="wiki", started_at=AT, cursor='["é", null]', errors=("late",))
    await stores.source_runs.put_run(wiki)
    await stores.source_runs.put_run(SourceRun(source="base", started_at=AT, changed=3))
    await stores.source_runs.put_run(SourceRun(source="base", into="https://a.example", started_at=AT))
    ended = wiki.model_copy(update={"ended_at": AT + timedelta(minutes=1), "errors": ()})
    await stores.source_runs.put_run(ended)
    runs = await stores.source_runs.runs()
    assert [run.key for run in runs] == ["base", "base https://a.example", "wiki"]
    assert runs[2] == ended
