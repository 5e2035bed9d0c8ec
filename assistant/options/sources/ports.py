"""Wikis and databases as sources of documents: the port of their connectors, and the store of their runs.

The adapters are in ``assistant.options.sources``; ``run`` brings what they read into a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from pydantic import AwareDatetime

from assistant.domain.clock import Deadline
from assistant.domain.documents import MediaType
from assistant.domain.public import PublicModel


@dataclass(frozen=True, slots=True)
class ChangedItem:
    """An item that is new or has changed."""

    item_id: str
    """Stable within the source; becomes the document's own id."""
    revision: str
    """Opaque; equal means unchanged."""


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of changes, oldest first."""

    changed: Sequence[ChangedItem]
    cursor: str
    """To give next time. It is kept only after everything that the page names was handed over."""
    is_last: bool


@dataclass(frozen=True, slots=True)
class FetchedItem:
    """The newest content of an item."""

    title: str
    media_type: MediaType
    content: str
    url: str | None = None
    effective_date: date | None = None
    labels: tuple[str, ...] | None = None
    """Labels that the source's own restrictions map to; ``()``: every agent may read it; None: the source has
    no restrictions of its own."""


class Connector(Protocol):
    """Reads one system, not more often than its settings allow.

    Every method raises DependencyError where the system is unavailable or answers what is not its format,
    OverloadedError with ``retry_after_s`` where it asks to wait, DeadlineExceededError. An empty answer is
    never made of an error.
    """

    async def changes(self, cursor: str | None, *, deadline: Deadline) -> ChangePage:
        """Return the changes since ``cursor``, a page at a time. None: from the beginning."""
        ...

    async def fetch(self, item_id: str, *, deadline: Deadline) -> FetchedItem | None:
        """Return an item; None where it was deleted meanwhile.

        Raises DocumentInvalidError for an item that cannot be read, and for a restriction that maps to no
        label: the item is refused, and withheld if it was known. It stops no other.
        """
        ...

    async def all_ids(self, after: str | None, *, deadline: Deadline) -> tuple[Sequence[str], str | None]:
        """Return a page of the ids of all items, and what to give for the next page; None after the last.

        What the product knows and no page names was deleted.
        """
        ...

    async def close(self) -> None: ...


class SourceRun(PublicModel):
    """One run of a source's connector, and where the next one goes on."""

    source: str
    into: str = ""
    """Address of the service that it brought documents to; empty: the stores that it is kept in."""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    """None while it runs, and for a run that was killed."""
    cursor: str | None = None
    """Everything before it was handed over."""
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    errors: tuple[str, ...] = ()
    """Why it stopped early, or items were refused: the first ones, without their text."""
    succeeded_at: AwareDatetime | None = None
    """When a run last ended without stopping early."""

    @property
    def key(self) -> str:
        """Names the source and the place: a run into another place has a cursor of its own."""
        return f"{self.source} {self.into}".rstrip()
