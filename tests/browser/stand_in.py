"""A stand-in for the service: it serves the built console with its real policy, sign-in, and the events that
a test chooses.

It needs no models, and gives answers that no knowledge base gives on demand. Only browser and page are real.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.browser.product import Held

QUESTION = "A claim came back with reject 79, refill too soon. When can a 30-day supply be filled again?"
UNANSWERABLE = "How do I change the oil of a diesel engine?"

SUPPORTED = "The plan returned NCPDP reject code 79, or our own system stopped an early refill."
UNSUPPORTED = "Penguins migrate across frozen oceans every winter."
"""No passage of the pharmacy says anything like it."""

CITED_TITLE = "Reject 79: refill too soon, including dose changes"


def source(n: int, document_id: str, title: str, **changes: Any) -> dict[str, Any]:
    """A source as the ``sources`` event brings it."""
    return {
        "n": n,
        "document_id": document_id,
        "title": title,
        "url": f"https://procedures.pharmacy.example/{document_id}",
        "source": "Claims",
        "snippet": "The plan returned NCPDP reject code 79.",
        "span": [0, 10],
        "content_hash": f"hash-of-{document_id}",
        "document_url": f"/open#token-{n}",
        "heading": "",
        "effective_date": None,
        **changes,
    }


def units(*parts: tuple[str, str, list[int]]) -> list[tuple[str, dict[str, Any]]]:
    """Text with its support and citations, unit by unit, as events; text between units has support ``""``."""
    events: list[tuple[str, dict[str, Any]]] = []
    at = index = 0
    for text, support, citations in parts:
        events.append(("token", {"text": text}))
        if support:
            end = at + len(text.rstrip())
            place = {"index": index, "start": at, "end": end, "citations": citations, "support": support}
            reason = "value_not_cited" if citations else "no_citation"
            check = {"detail": "check", "reasons": [reason]} if support == "unsupported" else {}
            events.append(("sentence", {**place, **check}))
            index += 1
        at += len(text)
    return events


def withheld(*values: str, index: int, at: int) -> tuple[str, dict[str, Any]]:
    """A sentence that was not shown, as an event: its place in the text, and what no source holds."""
    place = {"index": index, "start": at, "end": at, "citations": []}
    return ("sentence", {**place, "support": "unsupported", "detail": "withheld", "values": list(values)})


def done(**changes: Any) -> tuple[str, dict[str, Any]]:
    return ("done", {"finish_reason": "stop", "citations": [1], "recorded": True, **changes})


REFILL, LOST = "refill-too-soon-standard", "lost-medication"
SPOKEN = "The first day that your plan will pay is the date I gave you. Has your dose changed?"
REFILL_TEXT = f"""{CITED_TITLE}

When this applies

The plan returned NCPDP reject code 79, or our own system stopped an early refill.

Steps

1. Find the next fill date. Our thresholds are below. The plan's date wins if it is later.
Fill: Retail, not controlled; Share of the supply that must be used: 75 percent (day 23 of 30)

2. If the date is near, offer to queue the refill. The system sends it on the first payable day.
3. If the days' supply on the last claim was wrong, send it to the pharmacist on duty (ext. 4200).

Exceptions

- School or work supply: some plans allow a second labelled bottle.
- Eye drops: Medicare allows early refills when drops run out because of spillage.

What to tell the patient

"{SPOKEN}"
"""


def _span(text: str, *, first: str, last: str) -> list[int]:
    return [text.index(first), text.index(last) + len(last)]


def refill_document() -> dict[str, Any]:
    """The stored text behind source 1, its steps cited."""
    places = {
        "When this applies": _span(REFILL_TEXT, first="The plan returned", last="early refill."),
        "Steps": _span(REFILL_TEXT, first="1. Find", last="(ext. 4200)."),
        "Exceptions": _span(REFILL_TEXT, first="- School", last="spillage."),
        "What to tell the patient": _span(REFILL_TEXT, first='"The first', last='changed?"'),
    }
    sections = [
        {"headings": [CITED_TITLE, heading], "start": start, "end": end}
        for heading, (start, end) in places.items()
    ]
    return {
        "document_id": REFILL,
        "title": CITED_TITLE,
        "url": f"https://procedures.pharmacy.example/{REFILL}",
        "source": "Claims",
        "type": "procedure",
        "owner": "Claims Desk",
        "effective_date": "2026-04-13",
        "question": None,
        "text": REFILL_TEXT,
        "sections": sections,
        "span": places["Steps"],
        "is_cited_version": True,
        "tables": [],
        "original": None,
        "links": [],
    }


OVERDOSE = {
    "name": "Possible overdose",
    "text": "Stay on the line. Do not advise to induce vomiting.",
    "call": "Poison Control, 1-800-222-1222, at any hour",
}
OFFERED = {
    "item_id": "approved-1",
    "revision": 2,
    "question": "When does the plan pay for the next fill?",
    "text": "The plan pays **from day 23** of a 30-day supply.",
    "n": 2,
}
SECTION = {
    "document_id": REFILL,
    "title": CITED_TITLE,
    "effective_date": "2026-04-13",
    "text": "1. Find the next fill date.\n2. If the date is near, offer to queue the refill.",
    "citations": [1],
}


def refill_sources(**changes: Any) -> tuple[str, dict[str, Any]]:
    """Two passages of one document and one of another, as an event."""
    in_force = {"effective_date": "2026-04-13"}
    steps = "1. Find the next fill date.\n2. If the date is near, offer to queue the refill."
    return (
        "sources",
        {
            "sources": [
                source(1, REFILL, CITED_TITLE, heading=f"{CITED_TITLE} > Steps", snippet=steps, **in_force),
                source(2, LOST, "Lost medication", heading="When this applies", effective_date="2026-06-01"),
                source(3, REFILL, CITED_TITLE, heading=f"{CITED_TITLE} > Exceptions", **in_force),
            ],
            **changes,
        },
    )


def quoted_refill(**changes: Any) -> list[tuple[str, dict[str, Any]]]:
    """An answer of quotes in Markdown with all that the service may say of it, as events."""
    also = {
        "document_id": LOST,
        "title": "Lost medication",
        "effective_date": "2026-06-01",
        "text": "**When this applies**\n\n- A medicine that was *lost*.\n- One that was stolen.",
        "citations": [2],
    }
    return [
        refill_sources(),
        *units(
            ("**Steps**\n\n", "", []),
            ("1. Find the next fill date. Our thresholds are below.\n", "supported", [1]),
            (
                "\n   | Fill | Share that must be used |\n   |---|---|\n"
                "   | Retail, not controlled | 75 percent |\n   | Mail, 90 days | 70 percent |\n\n",
                "supported",
                [1, 3],
            ),
            (
                "2. If the date is near, **offer to queue** the refill. "
                "The system sends it on the first payable day.\n",
                "supported",
                [1],
            ),
        ),
        done(**{"mode": "quoted", "also": [also], **changes}),
    ]


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


DIST = Path(__file__).parents[2] / "assistant" / "service" / "console" / "dist"
_DESK = "/v1/desk/"
_HOLD_LIMIT_S = 30.0
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

Event = tuple[str, Body]


def policy(issuer: str) -> str:
    """The service's own policy; ``test_safety`` compares the two."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {issuer}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )


@dataclass
class StandIn:
    """``script``: the events of each answer after the first one, which gets the fields of ``started``.
    ``asked``: the questions that came."""

    port: int = 0
    script: tuple[Event | Held, ...] = ()
    started: Body = field(default_factory=dict[str, Body])
    documents: dict[str, Body] = field(default_factory=dict[str, Body])
    asked: list[Body] = field(default_factory=list[Body])
    cancelled: set[str] = field(default_factory=set[str])
    """Ids of the answers that an agent has stopped."""
    conversations: dict[str, list[Body]] = field(default_factory=dict[str, list[Body]])
    agent: str = "amira"
    """Who signs in next, with ``roles``."""
    roles: tuple[str, ...] = ("agent",)
    acts: list[Body] = field(default_factory=list[Body])
    """What the page reported of answers."""
    refilled: list[Body] = field(default_factory=list[Body])
    """States of elements that a second try of each gets, first come first served; none: the try fails."""
    tried: list[tuple[str, Body]] = field(default_factory=list[tuple[str, Body]])
    """Path and body of each second try of an element."""
    marks: list[tuple[str, Body]] = field(default_factory=list[tuple[str, Body]])
    """Verdicts and sent texts as they came, each with its kind."""
    desk: StandInDesk = field(default_factory=StandInDesk)
    guards: dict[str, str] = field(default_factory=lambda: {"pharmacy": "seen"})
    """Tenant = what a reply with findings needs."""
    replies: list[tuple[Event | Held, ...]] = field(default_factory=list[tuple[Event | Held, ...]])
    """The events of each reply after its first one; with any, the tenant's model writes replies."""
    reply_bodies: list[Body] = field(default_factory=list[Body])
    """What was asked of replies, and of their check."""
    checks: dict[str, list[Body]] = field(default_factory=dict[str, list[Body]])
    """What the check finds in a text."""
    dist: Path = DIST
    """The built console."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, *events: Event | Held) -> None:
        self.script = events


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/config.json":
                self._json(
                    {
                        **self._issuer(),
                        "client_id": "console",
                        "scopes": ["openid"],
                        "service": "Care",
                        "delivers": [],
                        "replies": ["pharmacy"] if self.stand_in.replies else [],
                        "guards": self.stand_in.guards,
                    }
                )
            case "/.well-known/openid-configuration":
                self._json(
                    {
                        **self._issuer(),
                        "authorization_endpoint": f"{self.stand_in.url}/authorize",
                        "token_endpoint": f"{self.stand_in.url}/token",
                    }
                )
            case "/authorize":
                # the nonce travels as the code: the issuer keeps nothing
                back = urlencode({"code": query["nonce"], "state": query["state"]})
                self._reply(302, b"", {"location": f"{query['redirect_uri']}?{back}"})
            case "/v1/answers":
                self._conversation(query["conversation_id"])
            case path if path.startswith(_DESK):
                self._problem_or_json(self.stand_in.desk.read(path.removeprefix(_DESK), query))
            case path if path.startswith("/v1/documents/"):
                self._json(self.stand_in.documents[path.rsplit("/", 1)[1]])
            case path:
                self._file(path.lstrip("/") or "index.html")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/token":
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            who = {"sub": self.stand_in.agent, "tenant": "pharmacy", "roles": list(self.stand_in.roles)}
            claims = {**self._issuer(form["code"]), **who}
            claims |= {"iss": self.stand_in.url, "aud": "console"}
            self._json({"access_token": _token(claims), "id_token": _token(claims)})
        elif self.path == "/v1/answers":
            self._answer(json.loads(body))
        elif self.path.startswith(_DESK):
            desk, by = self.stand_in.desk, self._caller()
            self._problem_or_json(desk.change(self.path.removeprefix(_DESK), json.loads(body), by=by))
        elif self.path.endswith("/reply/check"):
            asked = json.loads(body)
            self.stand_in.reply_bodies.append(asked)
            self._json({"checks": self.stand_in.checks.get(asked["text"], [])})
        elif self.path.endswith("/reply"):
            self._write_reply(json.loads(body))
        elif "/elements/" in self.path:
            self._refill(json.loads(body))
        elif self.path.endswith("/acts"):
            self._act(json.loads(body))
        else:
            kind = "verdict" if self.path.endswith("/verdict") else "sent"
            self.stand_in.marks.append((kind, json.loads(body)))
            self._json({"at": "2026-11-20T08:00:00Z", kind: json.loads(body)})

    def do_DELETE(self) -> None:
        self.stand_in.cancelled.add(self.path.rsplit("/", 1)[1])
        self._reply(204, b"", {})

    def _issuer(self, nonce: str = "") -> Body:
        return {"issuer": self.stand_in.url, "nonce": nonce}

    def _caller(self) -> str:
        """Return the ``sub`` of the token that the request brought."""
        payload = self.headers["authorization"].split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"]

    def _write_reply(self, body: Body) -> None:
        stand_in = self.stand_in
        stand_in.reply_bodies.append(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        ids = {"answer_id": f"reply-{len(stand_in.reply_bodies)}", "conversation_id": "answer-1"}
        started = ("started", {**stand_in.started, **ids})
        self._write((started, ("sources", {"sources": []}), *stand_in.replies.pop(0)), [])

    def _refill(self, body: Body) -> None:
        stand_in = self.stand_in
        stand_in.tried.append((self.path, body))
        if stand_in.refilled:
            self._json(stand_in.refilled.pop(0))
        else:
            self._problem_or_json((503, problem(503, "dependency_unavailable", "Orders is down.")))

    def _act(self, act: Body) -> None:
        stand_in = self.stand_in
        stand_in.acts.append(act)
        stored = {"answer_id": "answer-1", "agent": stand_in.agent, "at": "2026-11-20T08:00:00Z"}
        self._json({**stored, "act": act})

    def _answer(self, request: Body) -> None:
        stand_in = self.stand_in
        stand_in.asked.append(request)
        number = len(stand_in.asked)
        conversation_id = request.get("conversation_id", f"conversation-{number}")
        ids = {"answer_id": f"answer-{number}", "conversation_id": conversation_id}
        started = ("started", {**stand_in.started, **ids})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        sent: list[Event] = []
        with suppress(OSError):  # the agent has left
            self._write((started, *stand_in.script), sent)
        outcome = "cancelled" if f"answer-{number}" in stand_in.cancelled else "done"
        stored = _stored(f"answer-{number}", request["question"], sent, outcome=outcome)
        stand_in.conversations.setdefault(conversation_id, []).append(stored)

    def _write(self, script: tuple[Event | Held, ...], sent: list[Event]) -> None:
        """Write the events, and note in ``sent`` those that were, until the answer is stopped."""
        answer_id = ""
        for position, event in enumerate(script):
            if isinstance(event, Held):
                event.released.wait(_HOLD_LIMIT_S)
                if answer_id in self.stand_in.cancelled:
                    return
                continue
            name, data = event
            answer_id = data.get("answer_id", answer_id)
            sent.append(event)
            lines = f"id: {answer_id}:{position}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
            self.wfile.write(lines.encode())
            self.wfile.flush()

    def _conversation(self, conversation_id: str) -> None:
        answers = self.stand_in.conversations.get(conversation_id)
        if answers is None:
            self._problem_or_json((404, problem(404, "not_found", "x")))
        else:
            self._json({"conversation_id": conversation_id, "answers": answers})

    def _file(self, name: str) -> None:
        path = self.stand_in.dist / name
        if not path.is_file():
            self._reply(404, b"", {})
            return
        headers = {"content-type": f"{_TYPES[path.suffix]}; charset=utf-8"}
        self._reply(200, path.read_bytes(), headers | {"content-security-policy": policy(self.stand_in.url)})

    def _problem_or_json(self, reply: tuple[int, Body]) -> None:
        status, body = reply
        kind = "application/json" if status < 400 else "application/problem+json"
        self._reply(status, json.dumps(body).encode(), {"content-type": kind})

    def _json(self, body: Body) -> None:
        self._reply(200, json.dumps(body).encode(), {"content-type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _token(claims: Body) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.x"


def _use(element: Body) -> Body:
    """Return what a record keeps of an element: no value."""
    kept = ("id", "name", "kind", "state", "title", "source", "as_of", "problem", "display")
    return {name: element[name] for name in kept}


def _stored(answer_id: str, question: str, events: list[Event], *, outcome: str) -> Body:
    """Return the record of an answer, made from its events."""
    done: Body = next((data for name, data in events if name == "done"), {})
    started: Body = next((data for name, data in events if name == "started"), {})
    sources: list[Body] = next((data["sources"] for name, data in events if name == "sources"), [])
    record: Body = {
        **done,
        "answer_id": answer_id,
        "question": question,
        "finish_reason": done.get("finish_reason"),
        "outcome": outcome,
        "error_code": None,
        "gate": None,
        "text": "".join(data["text"] for name, data in events if name == "token"),
        "sentences": [data for name, data in events if name == "sentence"],
        "elements": [_use(data) for name, data in events if name == "element"],
        "red_flags": [flag["name"] for flag in started.get("red_flags", [])],
        "asked_at": "2026-11-20T08:00:00Z",
        "finished_at": "2026-11-20T08:00:01Z",
    }
    return {"record": record, "sources": [{**s, "snippet": ""} for s in sources], "verdicts": [], "sent": []}


@contextmanager
def running_stand_in() -> Iterator[StandIn]:
    """Serve on a free port of this machine for as long as the block runs."""
    stand_in = StandIn()
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stand_in.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
