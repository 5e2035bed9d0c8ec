"""The table of ports: each names an adapter that exists on both sides, and settings that exist."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.clock import SystemClock
from assistant.process.settings import AuditSettings, IngestingSettings, MovingSettings, ServiceSettings
from assistant.stores import opened as stores
from assistant.stores.opened import EmbeddedTenant, Port, StoredPort

PORTS: dict[str, Port[Any]] = {name: value for name, value in vars(stores).items() if isinstance(value, Port)}
STORED: dict[str, StoredPort[Any]] = {
    name: value for name, value in vars(stores).items() if isinstance(value, StoredPort)
}
SETTINGS = {
    name
    for settings in (AuditSettings, IngestingSettings, MovingSettings, ServiceSettings)
    for name in settings.model_fields
}


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
async def test_each_port_has_an_adapter_on_a_laptop_and_on_aws(port: Port[Any], tmp_path: Path) -> None:
    embedded = EmbeddedTenant(tmp_path, embedding_model="tiny", dimensions=4)
    module, _, name = port.aws.partition(":")
    assert getattr(embedded, port.embedded) is not None
    assert callable(attrgetter(name)(import_module(f"assistant.{module}")))
    assert {*port.needs.values(), port.chosen_by} <= SETTINGS
    await embedded.close()


@pytest.mark.parametrize("port", STORED.values(), ids=STORED)
async def test_each_store_is_over_a_file_of_a_laptop_and_a_table_on_aws(
    port: StoredPort[Any], tmp_path: Path
) -> None:
    embedded = EmbeddedTenant(tmp_path, embedding_model="tiny", dimensions=4)
    kept = getattr(embedded, port.embedded)
    made = port.make(embedded.table_of(port.table), SystemClock())
    assert type(kept) is type(made) or port.embedded in ("index_writes", "reindex_turn")  # locks of files
    assert port.table.setting in SETTINGS
    await embedded.close()
