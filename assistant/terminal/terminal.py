"""What every command shares: its options, the tenants' files and stores, and what people see.

Results go to stdout, progress and remarks to stderr, spinners to a terminal only.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import orjson
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from assistant.domain.errors import ConfigurationError
from assistant.laptop.layout import models_dir
from assistant.process.settings import LocalSettings, PreparingSettings
from assistant.tenant.added_models import TenantModels, local_models
from assistant.tenant.tenant import TenantConfig, TenantFiles, load_tenants

if TYPE_CHECKING:
    from assistant.client import AssistantClient, Patience
    from assistant.stores.opened import EmbeddedTenant

T = TypeVar("T")
Opened = TypeVar("Opened")


def instant(written: str) -> datetime:
    """Return the time that an option names: an instant, or the start of a day; UTC unless it has a zone.
    Raises typer.BadParameter."""
    try:
        given = datetime.fromisoformat(written)
    except ValueError:
        form = "write a day (2026-11-21) or an instant (2026-11-21T14:30)"
        raise typer.BadParameter(f"{written}: {form}.") from None
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)


def last_instant(written: str) -> datetime:
    """Return as ``instant`` does, but for a day (recognised by its length) its end."""
    return instant(written) + timedelta(days=len(written) == len("2026-11-21"))


def window_of(since: datetime | None, until: datetime | None, *, days: int = 30) -> tuple[datetime, datetime]:
    """Return (begin, end); by default the last ``days`` until now. Raises ConfigurationError where begin is
    not before end."""
    end = until or datetime.now(UTC)
    begin = since or end - timedelta(days=days)
    if begin >= end:
        raise ConfigurationError(f"The window is empty: {begin:%Y-%m-%d} is not before {end:%Y-%m-%d}.")
    return begin, end


Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="Name of a tenant file.")]
"""The option of every command that works for one tenant."""
FIRST_DAY = "First day or instant, UTC. Default: 30 days before --to."
From = Annotated[datetime | None, typer.Option("--from", parser=instant, metavar="DAY", help=FIRST_DAY)]
LAST_DAY = "Last day or instant, UTC. Default: now."
To = Annotated[datetime | None, typer.Option("--to", parser=last_instant, metavar="DAY", help=LAST_DAY)]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options of every command (``main.options`` makes them), and what commands open by them."""

    tenants_dir: Path
    state_dir: Path
    port: int | None
    """None: the port of the settings, or of what runs already."""
    json: bool
    """Whether results are written for a program."""
    deployed: bool = False
    """Whether ``assistant learn`` works on a deployment's stores."""
    _warned: set[str] = field(default_factory=set[str], compare=False)
    """Tenants whose wrong file this command has already reported."""

    @classmethod
    def of(cls, context: typer.Context) -> GlobalOptions:
        options: object = context.obj
        assert isinstance(options, cls)  # noqa: S101 - main.options always sets it
        return options

    def writes(self, result: object) -> bool:
        """Write the result for a program where ``--json`` asks for it; return whether it does."""
        if self.json:
            Terminal().json(result)
        return self.json

    def local_settings(self) -> LocalSettings:
        """Return the settings of the local processes. Raises ConfigurationError."""
        return LocalSettings.read(**({} if self.port is None else {"port": self.port}))

    def preparing(self) -> PreparingSettings:
        """Return where the deployment's stores are. Raises ConfigurationError naming the variables."""
        return PreparingSettings.read(tenants_dir=self.tenants_dir, state_dir=self.state_dir)

    def service_client(
        self, url: str, *, of: str, token_file: Path | None = None, patience: Patience | None = None
    ) -> AssistantClient:
        """Return a client of a service elsewhere. Raises ConfigurationError.

        ``of``: whose token the settings must have, unless a ``token_file`` has it.
        """
        from assistant.client import AssistantClient  # half a second: not every command calls a service

        settings, tls = self.local_settings(), None
        token = token_file or settings.service_token
        if token is None:
            name = settings.variable("service_token")
            raise ConfigurationError(f"{name} must hold {of} token of the service.")
        if settings.service_ca_file is not None:
            try:
                tls = ssl.create_default_context(cafile=settings.service_ca_file)
            except OSError as error:  # no file, or no certificate in it
                name = settings.variable("service_ca_file")
                raise ConfigurationError(f"{name} names no certificates in PEM ({error}).") from None
        return AssistantClient(url, token=token, patience=patience, tls=tls)

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
        from assistant.stores.opened import open_stores  # the slowest import: not every command opens stores

        return open_stores(self.tenant(tenant), state_dir=self.state_dir.resolve())

    def with_stores(self, tenant: str, work: Callable[[EmbeddedTenant], Awaitable[T]]) -> T:
        """Return the result of ``work`` with one tenant's stores."""
        return within(self.stores(tenant), work)

    def _tenant_files(self) -> TenantFiles:
        """Return the tenant files with the models that tenants use here. One whose model is invalid is
        refused, too."""
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


def within(opened: AbstractAsyncContextManager[Opened], work: Callable[[Opened], Awaitable[T]]) -> T:
    """Open the context manager, and return the result of ``work`` with what it yields."""

    async def run() -> T:
        async with opened as resource:
            return await work(resource)

    return asyncio.run(run())


def pairs_of(option: str, given: Sequence[str], *, form: str) -> list[tuple[str, str]]:
    """Return the pairs of a repeated option: ["a=1", "b=2"] → [("a", "1"), ("b", "2")]. ``form``: how they
    are written, for the error. Raises typer.BadParameter."""
    pairs = [each.partition("=") for each in given]
    if wrong := [each for each, pair in zip(given, pairs, strict=True) if not all(pair)]:
        raise typer.BadParameter(f"{option} {wrong[0].partition('=')[0]}: write {form}.")
    return [(name, value) for name, _, value in pairs]


def ids_by_kind(option: str, given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the ids of a repeated option by kind: ["order=1", "order=2"] → {"order": ("1", "2")}. Raises
    typer.BadParameter."""
    ids: dict[str, tuple[str, ...]] = {}
    for kind, value in pairs_of(option, given, form="KIND=ID"):
        ids[kind] = (*ids.get(kind, ()), value)
    return ids


def age(since: timedelta) -> str:
    """Return a time span in its largest unit: "5 s", "3 min", "2 h", "4 d"."""
    seconds = max(0, int(since.total_seconds()))
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds // size_s} {unit}"
    return f"{seconds} s"


def in_words(value: Any) -> str:
    """Return a value of JSON for a reader: "yes", "0.66", "one, other", "size 3, kind live"."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case dict():
            entries = cast("dict[str, Any]", value).items()
            return ", ".join(f"{name} {in_words(entry)}" for name, entry in entries)
        case list() | tuple():
            return ", ".join(map(in_words, cast("Sequence[Any]", value)))
        case _:
            return str(value)


def cli_reader() -> str:
    """Return the recorded name of a reader on the command line, who reads as an auditor does."""
    return f"cli:uid-{os.getuid()}"


_COUNT_EVERY_S = 5.0
"""Between two lines of progress where stderr is no terminal."""
_WIDE = 160
"""Characters of a line where stdout is no terminal."""
_LABEL_WIDTH = 19
"""Of the names that ``Terminal.fields`` prints."""
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
    """Return a table without borders; the ``right`` columns are right-aligned, long cells are folded.

    Texts are shown to the letter: brackets in them are no markup, control characters are replaced.
    """
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    return grid


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
    brief: bool = False
    """Whether details are left out: ``detail`` prints nothing, and progress is shown on a terminal only."""
    began_s: float = field(default_factory=time.monotonic)

    @property
    def detail(self) -> Terminal:
        """The terminal on which details of the result are printed."""
        return replace(self, out=Console(quiet=True)) if self.brief else self

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
        rows: list[Sequence[str | Text]] = []
        for value, cells in entries:
            rows.append(cells)
            if as_json:
                self.json(value)
        if rows and not as_json:
            self.out.print(table(*headings, rows=rows))
        return len(rows)

    def fields(self, values: Mapping[str, Any]) -> None:
        """Print JSON for a reader: each value beside its name, a list of objects as a table, and an object a
        line an entry. What is absent or empty is left out."""
        for name, value in values.items():
            label = name.replace("_", " ")
            if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
                rows = cast("Sequence[dict[str, Any]]", value)
                keys = list(rows[0])
                cells = ([in_words(row[key]) for key in keys] for row in rows)
                self.show(label, "bold")
                self.out.print(table(*(key.replace("_", " ") for key in keys), rows=cells))
                continue
            entries = cast("dict[str, Any]", value if isinstance(value, dict) else {"": value})
            for key, entry in entries.items():
                if text := in_words(entry):
                    self.out.print(
                        styled((f"{label:<{_LABEL_WIDTH}}", "bold"), (f"{key} {text}".lstrip(), ""))
                    )
                    label = ""

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
        """Yield a function that shows progress, (done, total; 0: unknown): a bar on a terminal, else a line
        every five seconds. ``of``: what is counted ("documents")."""
        if not self.err.is_terminal:
            yield self._count_in_lines(what, of)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn(of),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.err, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total or None)

    def _count_in_lines(self, what: str, of: str) -> Callable[[int, int], None]:
        """Return a function that prints a line of progress, at most one every five seconds."""
        last_line_s = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal last_line_s
            if not self.brief and time.monotonic() - last_line_s >= _COUNT_EVERY_S:
                last_line_s = time.monotonic()
                of_total = f" of {total:,}" if total else ""
                self.say(f"{what}: {done:,}{of_total} {of}")

        return show

    def line(self, text: str) -> None:
        """Write one line of the result for a program: no markup, no wrapping."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def json(self, value: object) -> None:
        """Write a result for a program: one line of JSON. Models of pydantic may be in it."""
        self.line(orjson.dumps(value, default=_fields_of, option=orjson.OPT_NON_STR_KEYS).decode())


def _fields_of(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)
