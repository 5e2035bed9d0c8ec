"""Findings that stay in the observability stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

ROWS: tuple[Acknowledgement, ...] = ()
