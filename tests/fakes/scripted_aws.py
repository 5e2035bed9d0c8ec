"""boto3's clients as a script: each call is written down, and answered as the test says."""
# pyright: basic

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
import pytest

from assistant.terminal.account import AwsAccount
from tests.fakes.aws_calls import Call

OF_COMMAND, OF_ROLE = "command", "role"
"""Key ids: of whoever runs the command, and of a role that it assumed."""
_SESSION = dict.fromkeys(("AccessKeyId", "SecretAccessKey", "SessionToken"), "x")


@cache
def _model_of(service: str) -> Any:
    given = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    return boto3.client(service, region_name="us-east-1", **given).meta


@dataclass(frozen=True, slots=True)
class _Client:
    service: str
    key_id: str
    answers: Mapping[str, Any]
    made: list[Call]

    def _answer(self, name: str, given: Mapping[str, Any]) -> Any:
        model = _model_of(self.service)
        operation, signed = model.method_to_api_mapping[name], model.service_model.signing_name
        self.made.append(Call(key_id=self.key_id, service=signed, operation=operation, given=dict(given)))
        answer = self.answers.get(f"{self.service}.{name}", {})
        return answer(**given) if callable(answer) else answer

    def __getattr__(self, name: str) -> Any:
        return lambda **given: self._answer(name, given)

    def get_paginator(self, name: str) -> Any:
        return _Pages(self, name)

    def upload_fileobj(self, _body: Any, bucket: str, key: str) -> None:
        self._answer("put_object", {"Bucket": bucket, "Key": key})


@dataclass(frozen=True, slots=True)
class _Pages:
    client: _Client
    name: str

    def paginate(self, **given: Any) -> _Page:
        return _Page([self.client._answer(self.name, given)])


class _Page(list[Any]):
    def build_full_result(self) -> Any:
        return self[0]


@contextmanager
def scripted_aws(account: str, answers: Mapping[str, Any]) -> Iterator[list[Call]]:
    """Answer the calls of ``AwsAccount`` inside the block; gives those that were made.

    ``answers``: by service and call (``ssm.get_parameter``), a response or a function of what is given; an
    empty response where there is none.
    """
    made: list[Call] = []
    answers = {
        "sts.get_caller_identity": {"Account": account, "Arn": f"arn:aws:iam::{account}:role/x"},
        "sts.assume_role": {"Credentials": _SESSION},
        **answers,
    }

    def client(self: AwsAccount, service: str) -> _Client:
        return _Client(service, OF_ROLE if self.credentials else OF_COMMAND, answers, made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AwsAccount, "client", client)
        yield made
