"""An embedding endpoint on a real socket that a test controls."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, cast

from tests.unit.documents.knowledge import vector_of

Behaviour = Literal["answers", "holds", "cut"]


class ScriptedEndpoint(ThreadingHTTPServer):
    """Answers as the SageMaker Runtime does, with vectors by the text's hash."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour: Behaviour = "answers"
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.texts: list[str] = []
        self.before: Callable[[list[str]], None] | None = None
        """Called with the texts of each request before the answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        server = cast("ScriptedEndpoint", self.server)
        behaviour = server.behaviour
        server.asked.set()
        if server.before is not None:
            server.before(texts)
        if behaviour == "holds":
            server.go_on.wait(60)
        body = json.dumps([vector_of(text) for text in texts]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)
        server.texts += texts

    def log_message(self, format: str, *args: object) -> None:
        """Tests read no access log."""


@contextmanager
def scripted_endpoint() -> Generator[ScriptedEndpoint]:
    server = ScriptedEndpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
