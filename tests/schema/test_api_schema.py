"""The running service against its own document: generated requests, and chains of them along its links.

Whatever one agent gets or makes is asked for again by an agent of another tenant and, where it is the agent's
own, by another agent of the same tenant: to them it is not there. The seed is fixed; API_EXAMPLES (20 by
default) asks for more chains, as ``check-api`` does.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from assistant.domain.answers import ReplyCheck
from assistant.process.http import HEAD_LIMIT_BYTES
from tests.stage.running_service import RunningService, running_service

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

EXAMPLES = int(os.environ.get("API_EXAMPLES", "20"))
LIMITS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=10,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # a finding is reported as it was found: shrinking costs minutes of requests
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
OPERATIONS = [
    (path, method)
    for path, operations in orjson.loads(DOCUMENT.read_bytes())["paths"].items()
    for method in operations
]
OPEN_PATHS = {"/healthz", "/openapi.json"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
REFUSALS = ["400", "404", "409", "410", "413", "422", "429"]
OF_AN_AGENT = re.compile(r"^/v1/answers/")
OF_A_TENANT = re.compile(r"^/v1/(answers|documents)/")
ROLES = ("agent", "knowledge_owner", "reviewer")
CHAT = "/v1/chat/completions"
TEXT = "Wait two days."
FOUND = ReplyCheck.found("not_held", ("2 day",), words=TEXT, start=0).id
"""Where a walk withdrew the document that holds it."""
OF_AN_ANSWER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "", {}),
    ("GET", "/events", {}),
    ("POST", "/verdict", {"json": {"verdict_id": "crossing", "label": "bad"}}),
    ("POST", "/sent", {"json": {"send_id": "crossing", "text": TEXT, "confirmed": [FOUND]}}),
    ("POST", "/acts", {"json": {"act_id": "crossing", "kind": "possibly_taken"}}),
    ("DELETE", "", {}),
)


@dataclass(frozen=True)
class Served:
    """The service, run by another thread, and who calls it."""

    url: str
    owner: dict[str, str]
    colleague: dict[str, str]
    stranger: dict[str, str]
    client: httpx.Client

    def ask_as(self, who: dict[str, str], method: str, path: str, **call: Any) -> httpx.Response:
        return self.client.request(method, path, headers=who, **call)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    started: Future[RunningService] = Future()
    ending = threading.Event()

    async def serve() -> None:
        try:
            async with running_service(tmp_path_factory.mktemp("api")) as service:
                await service.know("wait", "The wait is two days.")
                await service.know("queue", "The queue is in the hall.")
                await service.know("refill", "A refill is due after 25 days.", tenant="pharmacy")
                started.set_result(service)
                await asyncio.to_thread(ending.wait)
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        service = started.result(timeout=90)
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            yield Served(
                service.url,
                owner=service.headers("ann", roles=ROLES),
                colleague=service.headers("bob", roles=ROLES),
                stranger=service.headers("ann", tenant="pharmacy", roles=ROLES),
                client=client,
            )
    finally:
        ending.set()
        thread.join(timeout=90)


@pytest.fixture(scope="module")
def api(served: Served) -> OpenApiSchema:
    return schema_of(served)


@pytest.fixture(scope="module")
def good_requests(served: Served) -> OpenApiSchema:
    """The same, of which only requests are generated that the document allows."""
    schema = schema_of(served)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE])
    return schema


def schema_of(served: Served) -> OpenApiSchema:
    document = served.ask_as({}, "GET", "/openapi.json").json()
    del document["security"]  # tokens are ours to give: generated ones only ever are 401
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.url)
    schema.config.generation.update(allow_extra_parameters=False)  # unknown parameters are passed over
    schema.config.checks.negative_data_rejection.expected_statuses = REFUSALS
    return schema


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part)
def test_requests_right_and_wrong_are_answered_as_the_document_says(
    served: Served, api: OpenApiSchema, path: str, method: str, mode: GenerationMode
) -> None:
    @LIMITS
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def check(case: Case) -> None:
        response = case.call(headers=served.owner, timeout=60)
        if len(str(response.request.url)) > HEAD_LIMIT_BYTES:  # refused before it comes to the operation
            assert response.status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        else:
            good = is_good_without_padding(case, api.raw_schema)
            excluded = [negative_data_rejection] if good else []
            case.validate_response(response, checks=CHECKS, excluded_checks=excluded)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "the document allows no request"


def is_good_without_padding(case: Case, document: dict[str, Any]) -> bool:
    """Whether a refused body is right as the API reads it: without the white space around its texts."""
    stripped = without_padding(case.body)
    if stripped == case.body:
        return False
    (content,) = case.operation.definition.raw["requestBody"]["content"].values()
    schema = {**document, **content["schema"]}
    return bool(jsonschema_rs.is_valid(schema, stripped))


def without_padding(body: Any) -> Any:
    match body:
        case str():
            return body.strip()
        case dict():
            return {name: without_padding(value) for name, value in body.items()}
        case list():
            return [without_padding(value) for value in body]
    return body


def test_chains_of_requests_keep_to_the_document_and_to_their_tenant(
    served: Served, good_requests: OpenApiSchema
) -> None:
    replayed: Counter[str] = Counter()
    found: list[Exception] = []

    class Walk(good_requests.as_state_machine()):  # type: ignore[misc]  # made from the schema
        def setup(self) -> None:
            """Begin every walk with an answer whose events are kept."""
            self.answer_id, self.conversation_id = resumable_answer(served)

        def before_call(self, case: Case) -> None:
            """Replace ids that the service did not give out by those of the walk's first answer."""
            if not is_given_out(case.path_parameters.get("answer_id", self.answer_id)):
                case.path_parameters["answer_id"] = self.answer_id
            case.headers.pop("Last-Event-ID", None)  # a generated one is of no answer
            if "conversation_id" in case.query:
                case.query["conversation_id"] = self.conversation_id
            if case.path == "/v1/answers" and isinstance(case.body, dict) and "conversation_id" in case.body:
                case.body["conversation_id"] = self.conversation_id
            if case.path == "/v1/chat/completions":
                case.body = {"model": "default", "messages": [{"role": "user", "content": "How long?"}]}

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": served.owner, "timeout": 10}

        def validate_response(
            self, response: Response, case: Case, additional_checks: Any = None, **_: Any
        ) -> None:
            try:
                case.validate_response(response, checks=CHECKS)
                replayed.update(refuse_others(served, response, case))
            except Exception as error:
                found.append(error)
                raise

    # What a walk draws depends on ids in responses, which Hypothesis refuses when it draws a walk twice.
    with suppress(FlakyStrategyDefinition):
        Walk.run(settings=LIMITS)
    assert found == []
    assert replayed


@pytest.mark.parametrize(("method", "rest", "call"), OF_AN_ANSWER, ids=lambda part: str(part))
def test_an_operation_on_an_answer_succeeds_for_its_agent_alone(
    served: Served, method: str, rest: str, call: dict[str, Any]
) -> None:
    path = f"/v1/answers/{resumable_answer(served)[0]}{rest}"
    assert served.ask_as(served.owner, method, path, **call).is_success
    for other in (served.stranger, served.colleague):
        refuse(served, other, method, path, **call)


@pytest.mark.parametrize(("method", "rest"), [("GET", "/status"), ("DELETE", "")])
def test_an_operation_on_a_document_succeeds_in_its_tenant_alone(
    served: Served, method: str, rest: str
) -> None:
    path = f"/v1/documents/queue{rest}"
    refuse(served, served.stranger, method, path)
    assert served.ask_as(served.owner, method, path).is_success
    refuse(served, served.stranger, method, path)


def resumable_answer(served: Served) -> tuple[str, str]:
    """Return the ids of a new answer of the owner whose events are kept, and of its conversation."""
    body = {"question": "How long is the wait?", "resume_window_s": 15}
    made = served.ask_as(served.owner, "POST", "/v1/answers", json=body)
    assert made.status_code == 200, made.text
    return made.json()["answer_id"], made.json()["conversation_id"]


def is_given_out(answer_id: object) -> bool:
    return isinstance(answer_id, str) and re.fullmatch("[0-9a-f]{32}", answer_id) is not None


def refuse_others(served: Served, response: Response, case: Case) -> Iterator[str]:
    """Ask again, as others, for what the owner has just got or made; yield the operations that were asked."""
    if not 200 <= response.status_code < 300:
        return
    path = case.formatted_path
    if OF_A_TENANT.match(path) and not path.endswith("/refill"):  # the stranger has one of that name
        others = [served.stranger, *([served.colleague] if OF_AN_AGENT.match(path) else [])]
        body = {"json": case.body} if case.method in ("POST", "PUT") else {}
        for other in others:
            refuse(served, other, case.method, path, **body)
            yield case.operation.label
    for answer_id in dict.fromkeys(re.findall(r'"answer_id":\s*"([0-9a-f]{32})"', response.text)):
        for other in (served.stranger, served.colleague):
            for method, rest, call in OF_AN_ANSWER:
                refuse(served, other, method, f"/v1/answers/{answer_id}{rest}", **call)
    for conversation_id in dict.fromkeys(re.findall(r'"conversation_id":\s*"([0-9a-f]{32})"', response.text)):
        following = {"question": "And by mail?", "conversation_id": conversation_id}
        chat = {"model": "default", "messages": [{"role": "user", "content": "And?"}]}
        for other in (served.stranger, served.colleague):
            refuse(served, other, "GET", f"/v1/answers?conversation_id={conversation_id}")
            refuse(served, other, "POST", "/v1/answers", json=following)
            refuse(served, other, "POST", CHAT, json=chat | {"conversation_id": conversation_id})
        yield "conversations"


def refuse(served: Served, other: dict[str, str], method: str, path: str, **call: Any) -> None:
    crossed = served.ask_as(other, method, path, **call)
    assert crossed.status_code == 404, f"{method} {path} is {crossed.status_code} to another"
    problem = crossed.json()
    assert (problem["error"] if path == CHAT else problem)["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "method"), [item for item in OPERATIONS if item[0] not in OPEN_PATHS], ids=lambda part: part
)
def test_nothing_is_given_without_a_token(served: Served, path: str, method: str) -> None:
    ids = {"answer_id": "a", "document_id": "wait", "case_id": "a", "item_id": "a", "element_id": "e1"}
    ids |= {"upload_id": "a", "name": "handbook", "conversation_id": "a", "suggestion_id": "a"}
    known = path.format(kind="glossary_entry", **ids)
    made_up = {"token": "clinic.made.up"}  # what opens a link, for one
    if path == "/v1/panel/sessions":
        made_up = {"code": "clinic.made.up", "origin": "https://care.example.org"}
    body = {"json": made_up} if method == "post" else {}
    assert served.ask_as({}, method.upper(), known, **body).status_code == 401
