"""``assistant aws audit verify --local``: what a person reads of it, and its status."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomlkit
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.audit import AccessEntry
from assistant.stores.audit import CloseDays
from tests.stage.knowledge import TENANT
from tests.stage.tenant_stores import open_tenant_stores

DAY = (datetime.now(UTC) - timedelta(hours=1)).date() - timedelta(days=1)
"""The last that is over for an hour."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tenant with two reads of that day, which is closed."""

    async def read_and_close() -> None:
        async with open_tenant_stores(TENANT, state_dir=tmp_path / "state") as stores:
            at = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
            for agent in ("ana", "ben"):
                entry = AccessEntry(at=at, agent=agent, kind="document", subject_id="d1")
                await stores.records.record_access(entry)
            await CloseDays(stores.records, stores.digests).close()

    asyncio.run(read_and_close())
    (tmp_path / "tenants").mkdir()
    content = TENANT.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "tenants" / f"{TENANT.name}.toml").write_text(tomlkit.dumps(content), encoding="utf-8")
    return tmp_path


def verify(folder: Path, *more: str) -> Result:
    options = ["--tenants", str(folder / "tenants"), "--state", str(folder / "state")]
    command = ["aws", "audit", "verify", "--tenant", TENANT.name, "--local"]
    return CliRunner().invoke(app, [*options, *command, "--from", str(DAY), "--to", str(DAY), *more])


def test_a_whole_day_is_told_in_counts(folder: Path) -> None:
    result = verify(folder)
    assert result.exit_code == 0, result.output
    counts = f"0 findings. {DAY} to {DAY}: 1 days with a digest, 1 chains, 3 records in them"
    assert counts in " ".join(result.output.split())


def test_a_removed_record_is_told_with_what_to_do(folder: Path) -> None:
    with sqlite3.connect(folder / "state" / "tenants" / TENANT.name / "records.sqlite") as file:
        file.execute("DROP TRIGGER items_no_delete")
        file.execute("DELETE FROM items WHERE pk LIKE 'access#%' AND item LIKE '%ana%'")
    file.close()
    result = verify(folder)
    assert result.exit_code == 1
    assert "gap" in result.output
    assert "1 findings." in " ".join(result.output.split())
