"""Every store that is declared, in the core and in options: it can be made here, and its settings exist."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import assistant.options
import assistant.stores
from assistant.options.desk.settings import MovingSettings
from assistant.process.settings import AuditSettings, IngestingSettings, ServiceSettings
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.store import Primitive, Store

SETTINGS = {
    name
    for settings in (AuditSettings, IngestingSettings, MovingSettings, ServiceSettings)
    for name in settings.model_fields
}


def declared() -> Iterator[tuple[str, Store[Any, Any] | Primitive[Any]]]:
    for package in (assistant.stores, assistant.options):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if {"stack", "commands"} & set(found.name.split(".")):
                continue
            for name, value in vars(import_module(found.name)).items():
                if isinstance(value, Store | Primitive):
                    yield name, value


STORES = dict(declared())


def settings_of(primitive: Primitive[Any]) -> set[str]:
    names = {getattr(primitive, each.name) for each in fields(primitive) if each.name.endswith("setting")}  # pyright: ignore[reportArgumentType]
    return (names | {setting for _, setting in getattr(primitive, "beside", ())}) - {""}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
async def test_each_store_is_made_here_and_its_settings_exist(
    store: Store[Any, Any] | Primitive[Any], tmp_path: Path
) -> None:
    embedded = EmbeddedTenant(tmp_path)
    assert await embedded.of(store) is embedded.get(store)
    assert settings_of(store.over if isinstance(store, Store) else store) <= SETTINGS
    await embedded.close()


def test_the_stores_of_the_core_are_found() -> None:
    assert {"RECORDS", "STATES", "CLAIMS", "DESK"} <= STORES.keys()
