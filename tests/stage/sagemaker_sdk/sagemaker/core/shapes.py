"""Shapes of the stand-in: ``Tag(key=…)`` is its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def __getattr__(_name: str) -> Callable[..., dict[str, Any]]:
    """Return a shape."""
    return dict
