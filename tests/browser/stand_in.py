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

from tests.browser.scripted_llm import Held
from tests.browser.stand_in_desk import StandInDesk, problem

DIST = Path(__file__).parents[2] / "assistant" / "service" / "console" / "dist"
_DESK = "/v1/desk/"
_HOLD_LIMIT_S = 30.0
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

Body = dict[str, Any]
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
