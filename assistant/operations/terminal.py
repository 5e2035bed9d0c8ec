"""What people see: results on stdout, progress and remarks on stderr, spinners only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_CONTROL = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""What would steer a terminal: C0, C1, and marks that change the direction of text."""


def plain(text: str, *, style: str = "") -> Text:
    """Return text from outside (documents, questions, a model) as it may reach a terminal."""
    return Text(text.translate(_CONTROL), style=style)


def _stdout() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Both streams of one command, and the clock that its progress lines show."""

    out: Console = field(default_factory=_stdout)
    err: Console = field(default_factory=_stderr)
    steps: bool = False
    """Whether every step is a line with the time since the start, as ``demo`` shows them."""
    began_s: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        """Show a line of progress with the time since the start; nothing unless steps are shown."""
        if self.steps:
            elapsed_s = time.monotonic() - self.began_s
            self.err.print(Text(f"{elapsed_s:6.1f} s  ", style="dim").append_text(plain(text)))

    def say(self, text: str) -> None:
        """Show why a person waits."""
        if self.steps:
            self.step(text)
        else:
            self.err.print(plain(f"· {text}", style="dim"))

    def process_ready(self, name: str, seconds: float) -> None:
        self.step(f"{name} ready after {seconds:.1f} s")

    @contextmanager
    def waiting(self, text: str) -> Generator[None]:
        """Show a spinner while the block runs, on a terminal only."""
        if self.steps or not self.err.is_terminal:
            yield
            return
        with self.err.status(f"{text} …"):
            yield

    def bar(self) -> Progress:
        """Return a progress bar with done, total and time, which stays when it is full."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.err,
            transient=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def line(self, text: str) -> None:
        """Write one line of the result for a program: no markup, no wrapping."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
