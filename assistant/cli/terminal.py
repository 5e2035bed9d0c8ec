"""What people see: results on stdout, progress and remarks on stderr, spinners only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_SPARSE_S = 5.0
_WIDE = 160
_CONTROL = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""What would steer a terminal: C0, C1, and marks that change the direction of text."""


def plain(text: str, *, style: str = "") -> Text:
    """Return text from outside (documents, questions, a model) as it may reach a terminal."""
    return Text(text.translate(_CONTROL), style=style)


def styled(*parts: tuple[str, str]) -> Text:
    """Return one line of (text, style) parts, each from outside perhaps; no style passes to the next."""
    line = Text()
    for text, style in parts:
        line.append_text(plain(text, style=style))
    return line


def _stdout() -> Console:
    # A table in a file or a pipe is not cut to the width of a terminal that is not there.
    width = None if sys.stdout.isatty() else _WIDE
    return Console(highlight=False, soft_wrap=True, width=width)


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
            self.err.print(styled((f"{elapsed_s:6.1f} s  ", "dim"), (text, "")))

    def say(self, text: str) -> None:
        """Show why a person waits."""
        if self.steps:
            self.step(text)
        else:
            self.err.print(plain(f"· {text}", style="dim"))

    def process_ready(self, name: str, seconds: float) -> None:
        self.step(f"{name} ready ({seconds:.1f} s)")

    @contextmanager
    def waiting(self, text: str) -> Generator[None]:
        """Show a spinner while the block runs, on a terminal only."""
        if not self.err.is_terminal:
            yield
            return
        with self.err.status(f"{text} …"):
            yield

    @contextmanager
    def counting(self, what: str, of: str) -> Generator[Callable[[int, int], None]]:
        """Yield a function that shows (done, total): a bar on a terminal, else a line every five seconds."""
        if not self.err.is_terminal:
            yield _SparseCount(self, what, of)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn(of),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.err, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total or None)

    def line(self, text: str) -> None:
        """Write one line of the result for a program: no markup, no wrapping."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


@dataclass(slots=True)
class _SparseCount:
    """Progress where nobody looks at a terminal: few lines."""

    terminal: Terminal
    what: str
    of: str
    _said_s: float = field(default_factory=time.monotonic)

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._said_s >= _SPARSE_S:
            self._said_s = time.monotonic()
            of_total = f" of {total:,}" if total else ""
            self.terminal.say(f"{self.what}: {done:,}{of_total} {self.of}")
