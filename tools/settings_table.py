"""The tables of environment variables in docs/start-alone.md, made from the settings classes themselves.

``python -m tools.settings_table`` writes them; a test finds drift.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from assistant.process.settings import (
    LocalSettings,
    ProcessSettings,
    ServiceSettings,
    StoreSettings,
    WorkerSettings,
)
from tools.tables import markdown_table, with_table

PAGE = Path(__file__).parents[1] / "docs" / "start-alone.md"
_SERVICE, _WORKER = "ASSISTANT_SERVICE_", "ASSISTANT_WORKER_"


def with_tables(page: str) -> str:
    """Return the page with new tables between its markers. The worker's table has the rows that differ
    from the service's."""
    service, worker, local = (_rows(each) for each in (ServiceSettings, WorkerSettings, LocalSettings))
    renamed = [tuple(cell.replace(_SERVICE, _WORKER) for cell in row) for row in service]
    shared = [row[0] for row in worker if row in renamed]
    own = f"As those of the service: {', '.join(shared)}.\n\n" + _table(
        row for row in worker if row not in renamed
    )
    for name, table in (("service", _table(service)), ("worker", own), ("command line", _table(local))):
        page = with_table(page, table, begin=f"variables of the {name},", end="end")
    return page


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return markdown_table(("variable", "values", "default", "what"), rows)


def _rows(settings: type[ProcessSettings]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    meanings = dict(_docstrings(settings))
    on_aws = settings.on_aws if issubclass(settings, StoreSettings) else ()
    for name, field in settings.model_fields.items():
        default = "needed with `stores=aws`" if name in on_aws else _default(field)
        what = re.sub(r"`(\w+)`", lambda found: _named(found, settings), meanings[name])
        variable = field.validation_alias or settings.variable(name)
        rows.append((f"`{variable}`", _values(field.annotation), default, what))
    return rows


def _named(found: re.Match[str], settings: type[ProcessSettings]) -> str:
    """Return the variable of a field that a sentence names."""
    return f"`{settings.variable(found[1])}`" if found[1] in settings.model_fields else found[0]


def _docstrings(settings: type[ProcessSettings]) -> Iterator[tuple[str, str]]:
    """Yield each field and the docstring under it, also of parent classes."""
    for owner in reversed(settings.__mro__):
        if not issubclass(owner, ProcessSettings):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, sentence in pairwise(statements):
            match field, sentence:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as text)),
                ):
                    yield name, " ".join(text.split())
                case _:
                    pass


def _values(annotation: Any) -> str:
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        choices = [_values(part) for part in get_args(annotation) if part is not type(None)]
        return ", ".join(choice for choice in choices if choice != '""')
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation) if value) or '""'
    if get_origin(annotation) in (dict, tuple):
        return "JSON"
    if get_args(annotation):  # Annotated
        return "URL"
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Path: "path"}
    return names[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None or field.default in (None, "", ()):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
