"""The movers of a folder of tenants, as the local worker opens them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import DeskKind
from assistant.options.desk import patients_opened as patients
from assistant.options.desk.opened import open_movers
from assistant.tenant.tenant import load_tenant
from tests.contracts import samples
from tests.fakes.tenant_files import settings_in
from tests.fakes.tenant_stores import tenant_stores
from tests.options.desk.moving import feedback_of

BAD = Verdict(verdict_id="v1", label=VerdictLabel.BAD)


async def test_a_verdict_is_moved_sealed_and_on_the_desk(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    tenant = load_tenant(tmp_path / "tenants" / "clinic.toml")
    stores = tenant_stores(tenant, state_dir=settings.state_dir)
    await stores.records.put_answer(samples.answer())
    stored = await stores.records.append_verdict("a1", BAD, agent="ana")
    async with open_movers(settings) as movers:
        assert [await move() for move in movers] == [1]
    read = feedback_of(stores).read(stored.at, stored.at + timedelta(seconds=1))
    (event,) = [each async for each in read]
    assert (event.tenant, event.label, event.text_id is None) == ("clinic", "bad", False)
    assert len(await stores.desk.list(DeskKind.CASE)) == 1
    await stores.close()


async def test_a_damaged_desk_of_one_tenant_leaves_the_mover_of_the_other(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    file = settings.tenants_dir / "clinic.toml"
    (settings.tenants_dir / "shop.toml").write_text(file.read_text().replace("clinic", "shop"))
    desk = settings.state_dir / "tenants" / "clinic" / "desk.sqlite"
    desk.parent.mkdir(parents=True)
    desk.write_bytes(bytes(range(1, 256)) * 16)
    with capture_logs() as lines:
        async with open_movers(settings) as movers:
            assert len(movers) == 1
    assert [line["tenant"] for line in lines if line["event"] == "tenant_not_served"] == ["clinic"]


async def test_no_mover_is_opened_where_a_function_moves(tmp_path: Path) -> None:
    names = ("documents_bucket", "states_table", "desk_table", "ingestion_queue_url", "withdrawals_queue_url")
    settings = settings_in(tmp_path, stores="aws", **dict.fromkeys(names, "name"))
    async with open_movers(settings) as movers:
        assert list(movers) == []


def test_without_the_engine_of_patients_data_no_words_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "find_spec", lambda _name: None)
    with capture_logs() as lines:
        assert patients.patients_filter() is None
    assert [line["event"] for line in lines] == ["feedback_without_words"]
