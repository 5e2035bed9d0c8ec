"""Every store that the core and the installed options declare."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import assistant.options
import assistant.stores
from assistant.stores.store import Primitive, Store, TableOf


@cache
def declared_stores() -> Mapping[str, Store[Any, Any] | Primitive[Any]]:
    """Return the stores and primitives by their name."""
    return {
        name: value
        for package in (assistant.stores, assistant.options)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not {"stack", "commands"} & set(found.name.split("."))
        for name, value in vars(import_module(found.name)).items()
        if isinstance(value, Store | Primitive)
    }


def declared_files() -> list[str]:
    """Return the SQLite files of a tenant."""
    over = (store.over if isinstance(store, Store) else store for store in declared_stores().values())
    return sorted({"queue.sqlite", *(table.file for table in over if isinstance(table, TableOf))})
