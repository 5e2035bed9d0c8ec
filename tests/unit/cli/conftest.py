"""A terminal whose output a test reads, a printer of answers on it, and an emulated AWS."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws
from rich.console import Console

from assistant.terminal.answer_view import AnswerPrinter
from assistant.terminal.terminal import Terminal

Answer = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def terminal(written: io.StringIO) -> Terminal:
    return Terminal(out=Console(file=written, width=200, highlight=False, soft_wrap=True))


@pytest.fixture
def printer(terminal: Terminal) -> AnswerPrinter:
    return AnswerPrinter(terminal, base_url="http://127.0.0.1:8700")


@pytest.fixture
def emulated_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What boto3 calls in this process, with credentials that nobody gave."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(config={"core": {"reset_boto3_session": False}}):  # each session reads the models anew
        yield


@dataclass
class PlannedCalls:
    """What boto3 answers in moto's place."""

    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    """By operation, for those that moto lacks."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Error codes by operation."""


@pytest.fixture
def planned_calls(emulated_aws: None, monkeypatch: pytest.MonkeyPatch) -> PlannedCalls:
    planned = PlannedCalls()
    by_moto: Any = vars(BaseClient)["_make_api_call"]

    def answered(client: BaseClient, operation: str, given: Mapping[str, Any]) -> Any:
        if code := planned.refused.get(operation):
            raise ClientError({"Error": {"Code": code, "Message": "No policy allows it."}}, operation)
        answer = planned.answers.get(operation)
        if answer is None:
            return by_moto(client, operation, given)
        return answer(given) if callable(answer) else answer

    monkeypatch.setattr(BaseClient, "_make_api_call", answered)
    return planned
