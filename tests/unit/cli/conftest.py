"""A terminal whose output a test reads, a printer of answers on it, and an emulated AWS."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from moto import mock_aws
from rich.console import Console

from assistant.terminal.answer_view import AnswerPrinter
from assistant.terminal.terminal import Terminal


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
    with mock_aws():
        yield
