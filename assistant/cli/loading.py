"""Documents on their way into a tenant's knowledge base, followed until each answers or failed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from assistant.cli.terminal import Terminal, plain
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import LocalRuntimeError
from assistant.knowledge.add_documents import AddSummary
from assistant.knowledge.ports import DocumentStates

_POLL_S = 0.2
_WINDOW = 64
"""Documents whose state is asked for at once. Few, for the worker needs the processor more."""
_STALLED_S = 120.0
_FAILED = frozenset({DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHHELD})
_FINAL = _FAILED | {DocumentState.LIVE, DocumentState.WITHDRAWN}


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of everything that was brought."""

    summary: AddSummary
    failed: tuple[DocumentStatus, ...]
    """Documents that were taken in and then could not be brought into the index."""
    seconds: float

    @property
    def live(self) -> int:
        """Documents of this load that answer with their newest content."""
        return self.summary.documents - len(self.failed)

    @property
    def has_failures(self) -> bool:
        return bool(self.summary.failures or self.failed)


@dataclass(slots=True)
class LoadFollower:
    """Watches the documents of one load until the worker is done with each. The worker must run."""

    states: DocumentStates
    worker_is_alive: Callable[[], bool]
    show: Callable[[int, int], None]
    """Called with the documents that are done and those that are to do, often."""
    _failed: list[DocumentStatus] = field(default_factory=list[DocumentStatus])

    async def follow(self, document_ids: Sequence[str]) -> tuple[DocumentStatus, ...]:
        """Return when the last is live or failed, with those that failed.

        Raises LocalRuntimeError when the worker ended or nothing moved for two minutes; what is in the
        queue then stays there for the next load.
        """
        pending = deque(document_ids)
        moved_s = time.monotonic()
        while pending:
            self.show(len(document_ids) - len(pending), len(document_ids))
            if await self._look(pending):
                moved_s = time.monotonic()
                continue
            self._refuse_to_wait(len(pending), still_s=time.monotonic() - moved_s)
            await asyncio.sleep(_POLL_S)
        self.show(len(document_ids), len(document_ids))
        return tuple(self._failed)

    async def _look(self, pending: deque[str]) -> bool:
        """Take the finished among the next few out of the pending ones; return whether there were any.

        The worker takes documents about in the order they came. Where the first few stay unfinished (they
        are tried again later), the next look is at those behind them.
        """
        window = [pending.popleft() for _ in range(min(_WINDOW, len(pending)))]
        found = await self.states.get_many(window)
        finished = {status.document_id: status for status in found.values() if status.state in _FINAL}
        left = [document_id for document_id in window if document_id not in finished]
        if finished:
            pending.extendleft(reversed(left))
        else:
            pending.extend(left)
        self._failed += [one for one in finished.values() if one.state in _FAILED]
        return bool(finished)

    def _refuse_to_wait(self, pending: int, *, still_s: float) -> None:
        if not self.worker_is_alive():
            raise LocalRuntimeError(
                f"The ingestion worker ended with {pending} documents to do; "
                "they stay queued: run the command again."
            )
        if still_s > _STALLED_S:
            raise LocalRuntimeError(
                f"No document was finished for {_STALLED_S:.0f} s, {pending} are to do; see the "
                "worker's log. They stay queued: run the command again."
            )


# The report of a load, for people and for programs.


_SHOWN_FAILURES = 100


def show_report(terminal: Terminal, report: LoadReport) -> None:
    """Print what was brought, in numbers that add up, and every failure by name and line."""
    summary = report.summary
    terminal.out.print(
        f"{summary.lines:,} read = {summary.documents:,} documents + {summary.duplicates:,} duplicates "
        f"+ {summary.withdrawn:,} withdrawn + {len(summary.failures):,} failures"
    )
    terminal.out.print(
        f"{summary.documents:,} documents = {summary.added:,} added + {summary.changed:,} changed "
        f"+ {summary.unchanged:,} unchanged"
    )
    terminal.out.print(f"{report.live:,} live, {len(report.failed):,} failed, after {report.seconds:.1f} s")
    failures = [
        *(f"{one.origin}: {one.reason} ({one.code})" for one in summary.failures),
        *(f"{one.document_id}: {one.failure_reason} ({one.failure_code})" for one in report.failed),
        *(
            f"{one.document_id}: withheld, nothing of it answers until it is sent again"
            for one in summary.withheld
        ),
    ]
    for failure in failures[:_SHOWN_FAILURES]:
        terminal.err.print(plain(failure, style="red"))
    if len(failures) > _SHOWN_FAILURES:
        terminal.err.print(f"… and {len(failures) - _SHOWN_FAILURES:,} more; --json names all", style="red")


def report_as_json(report: LoadReport) -> str:
    """Return one JSON object: the numbers, and all failures."""
    summary = report.summary
    return orjson.dumps(
        {
            "lines": summary.lines,
            "documents": summary.documents,
            "added": summary.added,
            "changed": summary.changed,
            "unchanged": summary.unchanged,
            "duplicates": summary.duplicates,
            "withdrawn": summary.withdrawn,
            "withheld": [one.document_id for one in summary.withheld],
            "live": report.live,
            "seconds": round(report.seconds, 3),
            "failures": [
                {"origin": one.origin, "code": one.code, "reason": one.reason} for one in summary.failures
            ],
            "failed_documents": [
                {
                    "document_id": one.document_id,
                    "state": one.state,
                    "code": one.failure_code,
                    "reason": one.failure_reason,
                }
                for one in report.failed
            ],
        }
    ).decode()
