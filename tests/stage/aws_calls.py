"""Calls of AWS as they come over the wire: whose they are, which operation, and with what; and what stands
before an emulated account and answers some of them as a test plans."""
# pyright: basic

from __future__ import annotations

import http.client
import io
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

_SERVICES = {
    "es": "opensearch",
    "monitoring": "cloudwatch",
    "elasticloadbalancing": "elbv2",
    "servicequotas": "service-quotas",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
}
"""Signing names that are not the services' own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    key_id: str
    """Access key of the caller: a role that was assumed has another one than who assumed it."""
    service: str
    """As the call is signed, which is also the prefix of its actions in IAM."""
    operation: str
    given: Mapping[str, Any]


def signed_by(request: Request) -> tuple[str, str]:
    """Return access key and signing name of a request; two empty strings where it is not signed."""
    header = request.headers.get("Authorization", "")
    scope = re.search(r"Credential=([^/]+)/\d+/[^/]*/([^/]+)/", header)
    return (scope[1], scope[2]) if scope else ("", "")


def read_operation(request: Request) -> tuple[str, Any, Any]:
    """Return botocore's name of the service, the model of the operation, and what is given to it."""
    _, signed = signed_by(request)
    service = _SERVICES.get(signed, signed)
    operation, found = get_service_router(service).match(request)
    given = PROTOCOL_PARSERS[str(get_service_model(service).resolved_protocol)](operation).parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.get_data(),
            "url_path": request.path,
            "url_params": found,
        }
    )
    return service, operation, given


def serialized(service: str, operation: Any, result: Any) -> Response:
    """Return the service's response: of a result, or of an exception with ``code`` and ``message``."""
    protocol = str(get_service_model(service).resolved_protocol)
    answer = get_serializer_class(service, protocol)(operation).serialize(result)
    return Response(answer["body"], status=answer["status_code"], headers=dict(answer["headers"]))


class AnsweredCalls:
    """A WSGI application that answers some operations of one service, and passes all other requests on.

    ``answers``: by operation; each is called with what is given, and returns None to pass the request on.
    """

    def __init__(self, application: Any, service: str, answers: Mapping[str, Callable[[Any], Any]]) -> None:
        self._application, self._service, self._answers = application, service, answers

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if signed_by(request)[1] == self._service:
            body = request.get_data()  # before the form is read, which would leave none
            environ["wsgi.input"] = io.BytesIO(body)
            service, operation, given = read_operation(Request(environ))
            environ["wsgi.input"] = io.BytesIO(body)
            answer = self._answers.get(operation.name)
            if answer is not None and (result := answer(given)) is not None:
                return serialized(service, operation, result)(environ, start_response)
        return self._application(environ, start_response)


_REFUSAL = (
    b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Refused.</Message></Error></ErrorResponse>"
)


class KeptCalls:
    """A WSGI application that passes requests on, and writes a line for each call by one access key.

    While a file of the same name that ends in ``.no-roles`` exists, STS gives no role whose ARN contains the
    file's text.
    """

    def __init__(self, application: Any, *, key_id: str, file: Path) -> None:
        self._application, self._key_id, self._file = application, key_id, file

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        key_id, service = signed_by(request)
        if key_id == self._key_id:
            body = request.get_data()  # before the form is read, which would leave none
            environ["wsgi.input"] = io.BytesIO(body)
            _, operation, given = read_operation(Request(environ))
            call = Call(key_id=key_id, service=service, operation=operation.name, given=given)
            with self._file.open("a") as lines:
                lines.write(json.dumps(asdict(call), default=str) + "\n")
            refusal = self._file.with_suffix(".no-roles")
            role = given.get("RoleArn", "") if call.operation == "AssumeRole" else ""
            if role and refusal.exists() and refusal.read_text() in role:
                return Response(_REFUSAL, status=403, mimetype="text/xml")(environ, start_response)
            environ["wsgi.input"] = io.BytesIO(body)
        return self._application(environ, start_response)


def read_calls(file: Path) -> list[Call]:
    """Return the calls that were written, in their order."""
    return [Call(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


# --- an account that answers as a test plans --------------------------------------------------------------
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
