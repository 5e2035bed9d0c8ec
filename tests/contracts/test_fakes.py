"""The fakes keep the promises of the ports that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.contracts import test_answer_records as contract
from tests.fakes.answering import (
    InMemoryRecords,
)

CONTRACT_TESTS = [
    function
    for name, function in inspect.getmembers(contract, inspect.iscoroutinefunction)
    if name.startswith("test_") and list(inspect.signature(function).parameters) == ["twin"]
]


@pytest.mark.parametrize("contract_test", CONTRACT_TESTS, ids=lambda function: function.__name__)
async def test_the_records_keep_the_contract(contract_test: Callable[[Any], Awaitable[None]]) -> None:
    await contract_test(SimpleNamespace(records=InMemoryRecords()))


def test_the_contract_was_found() -> None:
    assert len(CONTRACT_TESTS) >= 8
