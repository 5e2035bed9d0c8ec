"""An account over HTTP: moto, with answers that a test gives for the operations which moto lacks."""
# pyright: basic

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moto.core.request import Request
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.fakes.aws_calls import read_operation, signed_by

Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


class PlannedAccount:
    """``answers``: by operation, what is answered in moto's place; ``refused``: error codes by operation."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.refused: dict[str, str] = {}
        self.url = ""
        self._application = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if not signed_by(Request(environ))[1]:
            return self._application(environ, start_response)
        body = Request(environ).get_data()  # before the form is read, which would leave none
        environ["wsgi.input"] = io.BytesIO(body)
        service, operation, given = read_operation(Request(environ))
        environ["wsgi.input"] = io.BytesIO(body)
        name, protocol = operation.name, str(get_service_model(service).resolved_protocol)
        if (code := self.refused.get(name)) is not None:
            said = f"{name}: no identity-based policy allows the action"
            if "json" in protocol:
                kind = {"X-Amzn-ErrorType": code, "Content-Type": "application/x-amz-json-1.1"}
                return Response(f'{{"__type": "{code}", "message": "{said}"}}', 403, kind)(
                    environ, start_response
                )
            error = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>"
            kept = (
                "<Response><Errors>{}</Errors></Response>"
                if protocol == "ec2"
                else "<ErrorResponse>{}</ErrorResponse>"
            )
            kept = "{}" if protocol == "rest-xml" else kept
            return Response(kept.format(error), 403, {"Content-Type": "text/xml"})(environ, start_response)
        answer = self.answers.get(name)
        if answer is None:
            return self._application(environ, start_response)
        result = answer(given) if callable(answer) else answer
        made = get_serializer_class(service, protocol)(operation).serialize(result)
        return Response(made["body"], made["status_code"], dict(made["headers"]))(environ, start_response)


@contextmanager
def planned_account() -> Iterator[PlannedAccount]:
    """Serve an empty account on a free port."""
    moto_api_backend.reset()
    account = PlannedAccount()
    server = make_server("127.0.0.1", 0, account, threaded=True)
    account.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
