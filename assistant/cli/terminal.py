"""What every command shares: its options, the tenants' files and stores, and what people see.

Results go to stdout, progress and remarks to stderr, spinners to a terminal only.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from assistant.domain.errors import ConfigurationError
from assistant.local.layout import models_dir
from assistant.settings.local_models import TenantModels, local_models
from assistant.settings.process import LocalSettings
from assistant.settings.tenant import TenantConfig, TenantFiles, load_tenants

if TYPE_CHECKING:
    from assistant.wiring.stores import EmbeddedTenant

T = TypeVar("T")
Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="Name of a tenant file.")]
"""The option of every command that works for one tenant."""


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    tenants_dir: Path
    state_dir: Path
    port: int | None
    """None: the port of the settings, or of what runs already."""
    json: bool
    _warned: set[str] = field(default_factory=set[str], compare=False)
    """Tenants whose wrong file this command has already reported."""

    @classmethod
    def of(cls, context: typer.Context) -> GlobalOptions:
        found: object = context.obj
        assert isinstance(found, cls)  # noqa: S101 - main.options always sets it
        return found

    def local_settings(self) -> LocalSettings:
        """Return the settings of the local processes. Raises ConfigurationError."""
        return LocalSettings.read(**({} if self.port is None else {"port": self.port}))

    def service_token(self, *, of: str) -> str:
        """Return the token for a service elsewhere; ``of``: whose it must be. Raises ConfigurationError."""
        settings = self.local_settings()
        if settings.service_token is None:
            name = settings.variable("service_token")
            raise ConfigurationError(f"{name} must hold {of} token of the service.")
        return settings.service_token

    def tenants(self) -> TenantFiles:
        """Return every tenant with the models that it uses here; report refused files on stderr.

        Raises ConfigurationError when none is left.
        """
        files = self._tenant_files()
        for name, error in files.refused.items():
            if name not in self._warned:
                self._warned.add(name)
                typer.echo(f"assistant: warning: {error.message}\n  Tenant {name} is left out.", err=True)
        return files

    def local_models(self, tenants: Iterable[str]) -> dict[str, TenantModels]:
        """Return the added models that each tenant uses here. Raises ConfigurationError."""
        return local_models(models_dir(self.state_dir), tenants)

    def tenant(self, name: str) -> TenantConfig:
        """Return one tenant by its exact name. Raises ConfigurationError where its file is wrong."""
        files = self._tenant_files()
        tenant = files.one(name)
        self.tenants()
        return tenant

    def stores(self, tenant: str) -> AbstractAsyncContextManager[EmbeddedTenant]:
        """Open one tenant's stores under the state folder."""
        from assistant.wiring.stores import open_stores  # the slowest import: not every command opens stores

        return open_stores(self.tenant(tenant), state_dir=self.state_dir.resolve())

    def with_stores(self, tenant: str, work: Callable[[EmbeddedTenant], Awaitable[T]]) -> T:
        """Return what ``work`` does with one tenant's stores."""

        async def run() -> T:
            async with self.stores(tenant) as stores:
                return await work(stores)

        return asyncio.run(run())

    def _tenant_files(self) -> TenantFiles:
        files = load_tenants(self.tenants_dir)
        served: dict[str, TenantConfig] = {}
        refused: dict[str, ConfigurationError] = {}
        for name, tenant in files.tenants.items():
            try:
                served[name] = self.local_models([name])[name].applied_to(tenant)
            except ConfigurationError as error:
                refused[name] = error
        if not served:
            raise next(iter(refused.values()))
        return replace(files.without(refused), tenants=served)


def pairs_of(option: str, given: Sequence[str], *, form: str) -> list[tuple[str, str]]:
    """Return the pairs of an option like NAME=VALUE. Raises typer.BadParameter."""
    pairs = [each.partition("=") for each in given]
    if wrong := [each for each, pair in zip(given, pairs, strict=True) if not all(pair)]:
        raise typer.BadParameter(f"{option} {wrong[0].partition('=')[0]}: write {form}.")
    return [(name, value) for name, _, value in pairs]


def ids_by_kind(option: str, given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the ids of an option like KIND=ID by kind. Raises typer.BadParameter."""
    ids: dict[str, tuple[str, ...]] = {}
    for kind, value in pairs_of(option, given, form="KIND=ID"):
        ids[kind] = (*ids.get(kind, ()), value)
    return ids


def cli_reader() -> str:
    """Return the recorded name of a reader on the command line, who reads as an auditor does."""
    return f"cli:uid-{os.getuid()}"


_COUNT_EVERY_S = 5.0
_WIDE = 160
_CONTROL = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\n\t"
}
"""Characters that control a terminal: C0, C1, and marks that change the direction of text."""


def plain(text: str, *, style: str = "") -> Text:
    """Return text from outside (documents, questions, a model) without control characters."""
    return Text(text.translate(_CONTROL), style=style)


def styled(*parts: tuple[str, str]) -> Text:
    """Return one line of (text, style) parts, without control characters."""
    return Text.assemble(*(plain(text, style=style) for text, style in parts))


def table(*headings: str, right: Collection[str] = (), rows: Iterable[Sequence[str | Text]] = ()) -> Table:
    """Return a table without borders; the ``right`` columns are right-aligned, long cells are folded."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _stdout() -> Console:
    # A table in a file or a pipe is not cut to a terminal's width.
    width = None if sys.stdout.isatty() else _WIDE
    return Console(highlight=False, soft_wrap=True, width=width)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Terminal:
    """Both streams of one command, and the start time of its progress lines."""

    out: Console = field(default_factory=_stdout)
    err: Console = field(default_factory=_stderr)
    steps: bool = False
    """Whether every step is a line with the time since the start, as in ``demo``."""
    began_s: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        """Show a line of progress with the time since the start, if ``steps``."""
        if self.steps:
            elapsed_s = time.monotonic() - self.began_s
            self.err.print(styled((f"{elapsed_s:6.1f} s  ", "dim"), (text, "")))

    def say(self, text: str) -> None:
        """Show a remark on stderr."""
        if self.steps:
            self.step(text)
        else:
            self.err.print(plain(f"· {text}", style="dim"))

    def show(self, text: str, style: str = "") -> None:
        """Print a line of the result; control characters of text from outside are replaced."""
        self.out.print(plain(text, style=style))

    def warn(self, text: str, style: str = "dim") -> None:
        """Print a line on stderr, as ``show`` does."""
        self.err.print(plain(text, style=style))

    def listing(
        self, *headings: str, entries: Iterable[tuple[object, Sequence[str | Text]]], as_json: bool
    ) -> int:
        """Print a table of the entries' cells, or a line of JSON for each entry; return how many there are.

        ``entries`` has (value for JSON, cells).
        """
        shown, count = table(*headings), 0
        for value, cells in entries:
            count += 1
            if as_json:
                self.json(value)
            else:
                shown.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells))
        if count and not as_json:
            self.out.print(shown)
        return count

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
            yield self._count_in_lines(what, of)
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

    def _count_in_lines(self, what: str, of: str) -> Callable[[int, int], None]:
        said_s = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal said_s
            if time.monotonic() - said_s >= _COUNT_EVERY_S:
                said_s = time.monotonic()
                of_total = f" of {total:,}" if total else ""
                self.say(f"{what}: {done:,}{of_total} {of}")

        return show

    def line(self, text: str) -> None:
        """Write one line of the result for a program: no markup, no wrapping."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def json(self, value: object) -> None:
        """Write a result for a program: one line of JSON."""
        self.line(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())
