from __future__ import annotations

import pytest

from assistant.domain import errors
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeploymentError,
    LocalRuntimeError,
    ParsingStoppedError,
)
from assistant.service.errors import problem_headers, problem_of

NEVER_AT_THE_EDGE = (
    AssistantError,
    ConfigurationError,
    DeploymentError,
    LocalRuntimeError,
    ParsingStoppedError,  # an answer of the parsing process, never raised: it becomes a document's failure
)
ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, AssistantError) and value not in NEVER_AT_THE_EDGE
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_keeps_its_code(kind: type[AssistantError]) -> None:
    problem = problem_of(kind("What happened."))
    assert problem.status != 500
    assert (problem.code, problem.detail, problem.retryable) == (kind.code, "What happened.", kind.retryable)


def test_an_error_without_a_status_tells_nothing() -> None:
    problem = problem_of(ConfigurationError("/etc/secret"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in problem.detail


@pytest.mark.parametrize("kind", [errors.OverloadedError, errors.SearchUnavailableError])
def test_a_refusal_for_a_while_says_how_long(kind: type[AssistantError]) -> None:
    assert problem_headers(problem_of(kind("x")), retry_after_s=2.5)["retry-after"] == "3"
