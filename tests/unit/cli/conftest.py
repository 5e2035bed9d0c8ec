"""A terminal whose output a test reads, and a printer of answers on it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from assistant.cli.answer_view import AnswerPrinter
from assistant.cli.terminal import Terminal


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def terminal(written: io.StringIO) -> Terminal:
    return Terminal(out=Console(file=written, width=200, highlight=False, soft_wrap=True))


@pytest.fixture
def printer(terminal: Terminal) -> AnswerPrinter:
    return AnswerPrinter(terminal, base_url="http://127.0.0.1:8700")
