"""Checks anyone's CloudFormation templates: known mistakes, reachability, and what an upgrade replaces."""

from __future__ import annotations

from typing import ClassVar


class InvalidInputError(Exception):
    """A given file cannot be used. The message names the file and what is wrong with it."""

    code: ClassVar[str] = "invalid_input"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
