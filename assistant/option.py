"""Where options join the core: folders of ``assistant/options``, which the core finds and does not name.

The ``option.py`` of each has one value, ``OPTION``. A *place* belongs to the module that asks what joins
there; both name it by the same string. What joins is written as ``module:name`` below the option's folder,
and imported when it is needed.

    COMMANDS = Place[Callable[[Typer], None]]("commands of models")  # in the core
    OPTION = Option(joins={"commands of models": "commands:add_to_models"})  # in options/models_lab/option.py
    for add in COMMANDS.joined(): add(app)  # calls options.models_lab.commands.add_to_models(app)
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
    """Group of ``assistant``'s commands = the module whose ``app`` it is, and its help:
    ``{"bedrock": ("commands", "Ask a Bedrock model.")}`` adds ``assistant bedrock …``."""
    joins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of a ``Place`` = what joins there, as ``module:name``. A name that no place has joins nothing."""
    extras: Mapping[str, str] = field(default_factory=dict[str, str])
    """Extra of the wheel = a module of the option, which must import with the packages of that extra alone.
    ``make check-extras`` tries it."""
    needs: tuple[str, ...] = ()
    """Options (folder names) without which this one is left out, too."""


@dataclass(frozen=True)
class Place(Generic[Joined]):
    """A place at which options join in, by its name."""

    name: str

    def joined(self) -> list[Joined]:
        """Return what the options that are here bring to this place, in the order of their names: one value
        of each option at most, and an empty list where none joins."""
        joins = ((package, option.joins.get(self.name)) for package, option in installed().items())
        return [imported(f"{package}.{reference}") for package, reference in joins if reference is not None]


@cache
def installed() -> Mapping[str, Option]:
    """Return the options that are here, by their package: ``assistant.options.NAME``."""
    names = sorted(module.name for module in pkgutil.iter_modules(assistant.options.__path__))
    packages = [f"{assistant.options.__name__}.{name}" for name in names]
    return {package: imported(f"{package}.option:OPTION") for package in packages}


def imported(reference: str) -> Joined:  # pyright: ignore[reportInvalidTypeVarUse]
    """Import a module now and return its value of that name: "assistant.options.NAME.intake:open_intake".
    The caller's annotation gives the type; nothing checks it."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
