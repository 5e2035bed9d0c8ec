"""The table of ports: each names an adapter that exists on both sides, and settings that exist."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from assistant.settings.process import AuditSettings, IngestingSettings, MovingSettings, ServiceSettings
from assistant.wiring import stores
from assistant.wiring.stores import EmbeddedTenant, Port

PORTS: dict[str, Port[Any]] = {name: value for name, value in vars(stores).items() if isinstance(value, Port)}


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
async def test_each_port_has_an_adapter_on_a_laptop_and_on_aws(port: Port[Any], tmp_path: Path) -> None:
    embedded = EmbeddedTenant(tmp_path, embedding_model="tiny", dimensions=4)
    module, _, name = port.aws.partition(":")
    assert getattr(embedded, port.embedded) is not None
    assert callable(attrgetter(name)(import_module(f"assistant.aws.{module}")))
    classes = (AuditSettings, IngestingSettings, MovingSettings, ServiceSettings)
    settings = {name for each in classes for name in each.model_fields}
    assert {*port.needs.values(), port.chosen_by} <= settings
    assert port.expires == hasattr(getattr(embedded, port.embedded), "begin_sweep")
    await embedded.close()
