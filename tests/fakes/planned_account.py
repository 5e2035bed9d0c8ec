"""What stands before an emulated account and answers some calls as a test plans."""
# pyright: basic

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from moto.core.request import Request
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.fakes.aws_calls import read_operation, serialized, signed_by

_OF_THE_SERVER = ("connection", "date", "server", "transfer-encoding")
"""Headers that each server writes itself: of two dates an SDK reads none."""


class DeniedError(Exception):
    code, message = "AccessDeniedException", "You are not authorized."


@dataclass
class PlannedAccount:
    """A WSGI application that passes on what it does not answer."""

    behind: str
    """URL of the emulated account."""
    answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict[str, Callable[[Any], Any]])
    """By signing name and operation ("kms:Encrypt"): called with what is given, and returns the result, an
    exception with ``code`` and ``message``, or None to pass the call on."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = Request(environ).get_data()
        environ["wsgi.input"] = io.BytesIO(body)
        request = Request(environ)
        signed = signed_by(request)[1]
        if any(name.startswith(f"{signed}:") for name in self.answers):
            service, operation, given = read_operation(request)
            answer = self.answers.get(f"{signed}:{operation.name}")
            if answer is not None and (result := answer(given)) is not None:
                return serialized(service, operation, result)(environ, start_response)
        return self._passed_on(request, body)(environ, start_response)

    def _passed_on(self, request: Request, body: bytes) -> Response:
        connection = http.client.HTTPConnection(urlsplit(self.behind).netloc, timeout=120)
        target = request.full_path if request.query_string else request.environ["RAW_URI"]
        headers = {name: value for name, value in request.headers if name.lower() != "transfer-encoding"}
        connection.request(request.method, target, body, headers)
        answer = connection.getresponse()
        kept = [each for each in answer.getheaders() if each[0].lower() not in _OF_THE_SERVER]
        return Response(answer.read(), answer.status, kept)


@contextmanager
def planned_account(behind: str) -> Iterator[tuple[PlannedAccount, str]]:
    """Yield the application and its URL."""
    application = PlannedAccount(behind)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield application, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
