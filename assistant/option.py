"""Where options join the core: folders of ``assistant/options``, which the core finds and does not name.

The ``option.py`` of each has one value, ``OPTION``. A *place* belongs to the module that asks what joins
there. What joins is written as ``module:name`` below the option's folder, and imported when it is needed.

    COMMANDS = Place[Callable[[Typer], None]]("commands of models")  # in the core
    OPTION = Option(joins={"commands of models": "commands:add"})  # in options/models_lab/option.py
    for add in COMMANDS.joined(): add(app)
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Generic, TypeVar

import assistant.options

Joined = TypeVar("Joined")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What one option brings."""

    commands: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Group of commands = the module whose ``app`` it is, and its help."""
    joins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Place = what joins there."""
    extras: Mapping[str, str] = field(default_factory=dict[str, str])
    """Extra of the wheel = a module that its packages alone must import."""
    needs: tuple[str, ...] = ()
    """Options without which this one is left out, too."""


@dataclass(frozen=True)
class Place(Generic[Joined]):
    """A place at which options join in, by its name."""

    name: str

    def joined(self) -> list[Joined]:
        """Return what the options that are here bring to this place, in the order of their names."""
        joins = ((package, option.joins.get(self.name)) for package, option in installed().items())
        return [imported(f"{package}.{said}") for package, said in joins if said is not None]


@cache
def installed() -> Mapping[str, Option]:
    """Return the options that are here, by their package."""
    names = sorted(found.name for found in pkgutil.iter_modules(assistant.options.__path__))
    packages = [f"{assistant.options.__name__}.{name}" for name in names]
    return {package: imported(f"{package}.option:OPTION") for package in packages}


def imported(said: str) -> Joined:  # pyright: ignore[reportInvalidTypeVarUse]
    """Return what ``module:name`` says, imported now."""
    module, _, name = said.partition(":")
    return getattr(import_module(module), name)
