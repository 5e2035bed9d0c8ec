"""What the runs of sources do over each table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from assistant.options.sources.run import SourceRun
from tests.contracts.twins import Twin

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


async def test_the_last_run_of_each_source_into_each_place_is_kept(twin: Twin, stranger: Twin) -> None:
    wiki = SourceRun(source="wiki", started_at=AT, cursor='["é", null]', errors=("late",))
    await twin.source_runs.put_run(wiki)
    await twin.source_runs.put_run(SourceRun(source="base", started_at=AT, changed=3))
    await twin.source_runs.put_run(SourceRun(source="base", into="https://a.example", started_at=AT))
    ended = wiki.model_copy(update={"ended_at": AT + timedelta(minutes=1), "errors": ()})
    await twin.source_runs.put_run(ended)
    runs = await twin.source_runs.runs()
    assert [run.key for run in runs] == ["base", "base https://a.example", "wiki"]
    assert runs[2] == ended
    assert await stranger.source_runs.runs() == []
