"""The stand-in's review desk: cases, items and refusals that a test chooses, in the service's shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.browser.answers import CITED_TITLE, LOST, REFILL, source

Body = dict[str, Any]
Reply = tuple[int, Body]

HOLIDAY = "Are you open on Thanksgiving?"
SHOWN = "**Steps**\n\n1. Find the next fill date. It is day **23** of 30.\n2. Offer to queue the refill.\n"
SENT = "1. Find the next fill date. It is day 25 of 30.\n2. Offer to queue the refill, please."
BETTER = "A 30-day supply can be filled again on day 23."


def case_row(case_id: str, question: str, **changes: Any) -> Body:
    """A line of the queue."""
    return {
        "case_id": case_id,
        "revision": 1,
        "reason": "bad_verdict",
        "state": "open",
        "opened_at": "2026-11-20T08:00:00Z",
        "question": question,
        "documents": [{"document_id": REFILL, "title": CITED_TITLE}],
        "gap": None,
        "joined": 0,
        "verdict_reasons": ["wrong", "outdated"],
        "changed_facts": [],
        "resolved_by": None,
        **changes,
    }


def queue_of_four() -> list[Body]:
    """One case for each reason."""
    return [
        case_row("case-1", "When can a 30-day supply be filled again?"),
        case_row("case-2", "Can she get her drops early?", reason="fact_edited", changed_facts=["number"]),
        case_row("case-3", "Is a second labelled bottle covered?", reason="unsupported_sent"),
        case_row("case-4", HOLIDAY, reason="unanswered", documents=[], gap="gap-1", verdict_reasons=[]),
    ]


def _verdict() -> Body:
    verdict = {"label": "bad", "reasons": ["wrong"], "better_text": BETTER, "wrong_citations": [2]}
    return {"at": "2026-11-20T08:01:00Z", **verdict}


@dataclass
class StandInDesk:
    """``changes``: the changes that came."""

    cases: list[Body] = field(default_factory=queue_of_four)
    changes: list[tuple[str, Body]] = field(default_factory=list[tuple[str, Body]])
    resolutions: dict[str, Body] = field(default_factory=dict[str, Body])
    items: dict[str, list[Body]] = field(default_factory=dict[str, list[Body]])
    """Item id → its revisions, oldest first."""

    def read(self, path: str, query: dict[str, str]) -> Reply:
        """Reply to GET; ``path`` is what follows ``/v1/desk/``."""
        parts = path.split("/")
        match parts:
            case ["cases"]:
                wanted = {name: query[name] for name in ("state", "reason", "gap") if name in query}
                found = [row for row in self.cases if all(row[name] == wanted[name] for name in wanted)]
                return 200, {"cases": found, "next_after": None}
            case ["cases", case_id]:
                return 200, self._detail(self._row(case_id))
            case ["gaps"]:
                ids = [row["case_id"] for row in self.cases if row["gap"] is not None]
                examples = [HOLIDAY, "Do you close early on Christmas Eve?"]
                gap = {"gap": "gap-1", "count": 31, "title": "holiday hours", "examples": examples}
                return 200, {"gaps": [{**gap, "case_ids": ids}]}
            case ["items"]:
                newest = [revisions[-1] for revisions in self.items.values()]
                return 200, {"items": [item for item in newest if item["kind"] == query["kind"]]}
            case ["items", _, item_id]:
                return 200, self._item(item_id)
            case _:
                return 404, problem(404, "not_found", "There is no such thing.")

    def change(self, path: str, body: Body, *, by: str) -> Reply:
        """Reply to POST."""
        self.changes.append((path, body))
        parts = path.split("/")
        match parts:
            case ["cases", case_id, "resolution"]:
                return 200, self._resolve(self._row(case_id), body, by=by)
            case _:
                return 404, problem(404, "not_found", "There is no such thing.")

    def _row(self, case_id: str) -> Body:
        return next(row for row in self.cases if row["case_id"] == case_id)

    def _resolve(self, row: Body, body: Body, *, by: str) -> Body:
        kind = body["kind"]
        item_id = f"item-{len(self.items) + 1}" if kind == "approved_answer" else None
        self.resolutions[row["case_id"]] = {"kind": kind, "item_id": item_id, "note": body["note"]}
        state = "dismissed" if kind == "dismissed" else "proposed"
        if item_id is not None:
            answer = {
                **body["approved_answer"],
                "state": "proposed",
                "owner": by,
                "labels": [],
                "sources": [],
            }
            answer |= {"proposed_by": by, "approved_by": None, "suspended_because": ""}
            self.items[item_id] = [_revision(item_id, 1, answer, by=by, note=body["note"])]
        row["resolved_by"] = by
        return self._turn(row, state, by=by)

    def _turn(self, row: Body, state: str, *, by: str) -> Body:
        row |= {"state": state, "revision": row["revision"] + 1, "approved_by": None}
        row.setdefault("history", []).append((state, by))
        return self._detail(row)

    def _item(self, item_id: str) -> Body:
        return {"revisions": self.items[item_id]}

    def _detail(self, row: Body) -> Body:
        is_answered = row["reason"] != "unanswered"
        entries = [("open", "desk"), *row.get("history", [])]
        history = [
            {"revision": n, "at": "2026-11-20T08:00:00Z", "by": by, "note": "", "state": state}
            for n, (state, by) in enumerate(entries, start=1)
        ]
        case = {name: row[name] for name in ("reason", "state", "opened_at", "gap", "resolved_by")}
        case |= {name: row[name] for name in ("verdict_reasons", "changed_facts")}
        case |= {"answer_id": "a1", "reader_labels": [], "approved_by": row.get("approved_by")}
        case |= {"documents": [one["document_id"] for one in row["documents"]]}
        case |= {"resolution": self.resolutions.get(row["case_id"])}
        sent = [{"at": "2026-11-20T08:02:00Z", "text": SENT}]
        sources = [source(1, REFILL, CITED_TITLE, heading="Steps"), source(2, LOST, "Lost medication")]
        return {
            "case_id": row["case_id"],
            "revision": row["revision"],
            "case": case,
            "asked": row["question"],
            "shown": SHOWN if is_answered else "",
            "sent": sent if is_answered else [],
            "better_text": BETTER if row["reason"] == "bad_verdict" else None,
            "verdicts": [_verdict()] if row["reason"] == "bad_verdict" else [],
            "sources": sources if is_answered else [],
            "history": history,
        }


def _revision(item_id: str, revision: int, answer: Body, *, by: str, note: str) -> Body:
    head = {"kind": "approved_answer", "item_id": item_id, "revision": revision, "at": "2026-11-20T09:00:00Z"}
    others = {"glossary_entry": None}
    state = answer["state"]
    return {**head, "by": by, "note": note, "state": state, "approved_answer": answer, **others}


def problem(status: int, code: str, detail: str) -> Body:
    """A problem body."""
    return {"title": "Refused", "status": status, "detail": detail, "code": code, "retryable": False}
