"""Every store that is declared, in the core and in options: it can be made here, and its settings exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from assistant.process.settings import FunctionSettings, StoreSettings
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.store import Primitive, Store
from tests.fakes.declared_stores import declared_stores

STORES = declared_stores()


def settings(kind: type[Any]) -> Iterator[str]:
    """Yield the names of a class's settings, and of those that classes of options add to it."""
    yield from kind.model_fields
    for below in kind.__subclasses__():
        yield from settings(below)


SETTINGS = {*settings(StoreSettings), *settings(FunctionSettings)}


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
