"""``python -m tools.tenant_keys``: writes the tables of docs/tenant-file.md, off the settings' classes.

docs/tenant-file.json says what a key changes on AWS: ``make tenant-file`` measures it. Tests find drift.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, OpenSection, StrictModel, with_options
from tools.tables import markdown_table, with_table

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs/tenant-file.md"
DATA = PAGE.with_suffix(".json")
"""Key = ``example``, and ``on_aws``: stack = what is lost there; a text where nothing is measured."""
_NUMBERS = {"exclusiveMinimum": "over {:g}", "minimum": "{:g} or more", "maximum": "at most {:g}"}
_BOUNDS = _NUMBERS | {"minItems": "{} or more", "maxItems": "at most {}"}
_KINDS = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number"}
_SERVICE = "Ingestion, Learning, Orchestrator"
_REVISION = "replaces ECS::TaskDefinition"
"""Not named: every change of what a task is given makes a new revision, which is rolled out."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    path: str
    """Without numbers, and with the kind of a connector: ``reach.port``, ``sources.connector.sql.url``."""
    field: FieldInfo
    what: str
    """The docstring under it; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its path, like a key's; its head, as a file has it (``[[reach]]``); its docstring."""

    path: str
    head: str
    what: str
    keys: Sequence[Key]


def tenant_tables() -> Iterator[Table]:
    """Yield every table of the tenant file with the keys of all options; the first one has no head.

    Keys that another file or the deployment fills in are left out, and those of a table like an earlier one.
    """
    return _tables(with_options(TenantConfig), Table("", "", "", ()), seen=set())


def _tables(model: type[BaseModel], table: Table, *, seen: set[type[BaseModel]]) -> Iterator[Table]:
    if model in seen:
        yield table
        return
    seen.add(model)
    meanings, above = dict(docstrings(model)), f"{table.path}." if table.path else ""
    keys: list[Key] = []
    inner: list[tuple[type[BaseModel], Table]] = []
    for name, field in model.model_fields.items():
        if KeyMark.OF_A_FILE in field.metadata or KeyMark.OF_THE_DEPLOYMENT in field.metadata:
            continue
        path, what = f"{above}{name}", meanings.get(name, "")
        models = [with_options(each) for each in models_in(field.annotation)]
        if not models:
            keys.append(Key(path, field, what))
        head = f"[{table.head.strip('[]')}.{name}]" if table.head else f"[{name}]"
        head = f"[{head}]" if get_origin(field.annotation) is tuple else head
        for each in models:
            kinds = get_args(each.model_fields["kind"].annotation) if len(models) > 1 else ()
            said = what if what and not kinds else _meaning(each)
            inner.append((each, Table(".".join([path, *kinds]), head, said, ())))
    yield replace(table, keys=keys)
    for each, below in inner:
        yield from _tables(each, below, seen=seen)


def _meaning(table: type[BaseModel]) -> str:
    """Return the first paragraph of a table's docstring, of the core's where options have subclasses."""
    bases = (object, BaseModel, StrictModel, OpenSection)
    owner = next(each for each in reversed(table.__mro__) if each not in bases)
    return " ".join(inspect.cleandoc(table.__doc__ or owner.__doc__ or "").split("\n\n")[0].split())


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a field's annotation names, inside of containers too."""
    if inspect.isclass(annotation) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield each field and the docstring under it, also of parent classes."""
    for owner in reversed(model.__mro__[:-2]):  # without BaseModel and object
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, sentence in pairwise(statements):
            value = sentence.value if isinstance(sentence, ast.Expr) else None
            if isinstance(field, ast.AnnAssign) and isinstance(value, ast.Constant):
                yield ast.unparse(field.target), " ".join(str(value.value).split())


# --- cells ------------------------------------------------------------------------------------------------
def type_of(field: FieldInfo) -> str:
    """Return a field's type in words, with its bounds."""
    annotation: Any = field.annotation
    for each in field.metadata:
        annotation = Annotated[annotation, each]
    return _words(TypeAdapter[Any](annotation).json_schema())


def _words(schema: Mapping[str, Any]) -> str:
    bounds = "".join(f", {said.format(schema[name])}" for name, said in _BOUNDS.items() if name in schema)
    bounds = bounds.replace(" or more, at most", " to")
    match schema:
        case {"anyOf": [*choices]}:
            return " or ".join(_words(each) for each in choices if each.get("type") != "null")
        case {"enum": [*values]}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`" if value else '`""`'
        case {"type": "array", "items": items}:
            return f"list{bounds}: {_words(items)}"
        case {"type": "object"}:
            values = schema.get("additionalProperties") or {"type": "string"}
            return f"table: {_words(schema.get('propertyNames', {'type': 'string'}))} = {_words(values)}"
        case {"type": "boolean" | "integer" | "number" as kind}:
            return f"{_KINDS[kind]}{bounds}"
        case _:
            is_url = str(schema.get("pattern")).startswith("^http")
            return "URL" if is_url else str(schema.get("format", "text"))


def toml(value: Any) -> str:
    """Return a value as a file has it, between backticks; empty for none and for empty lists and tables."""
    if value in (None, "", (), {}, []):
        return ""
    if not isinstance(value, dict):
        return f"`{json.dumps(value, ensure_ascii=False)}`"
    pairs = (
        f"{json.dumps(key)} = {json.dumps(inner)}" for key, inner in cast("dict[str, Any]", value).items()
    )
    return f"`{{ {', '.join(pairs)} }}`"


def on_aws(effect: str | Mapping[str, Sequence[str]]) -> str:
    """Return in words which stacks a key changes, and what these replace or remove."""
    if isinstance(effect, str):
        return effect
    said = {stack: [each for each in lost if each != _REVISION] for stack, lost in effect.items()}
    quiet = ", ".join(stack for stack, lost in said.items() if not lost)
    quiet = "the service" if quiet == _SERVICE else quiet
    loud = [f"**{stack}** {_grouped(lost)}" for stack, lost in said.items() if lost]
    return "; ".join([*filter(None, [quiet]), *loud]) or "nothing"


def _grouped(lost: Sequence[str]) -> str:
    """Return the types with what becomes of them said once: ``replaces EC2::Subnet, EC2::VPC``."""
    groups = groupby(sorted(lost), key=lambda each: each.rpartition(" ")[0])
    return ", ".join(
        f"{word} {', '.join(each.rpartition(' ')[2] for each in group)}" for word, group in groups
    )


# --- page -------------------------------------------------------------------------------------------------
def with_keys(page: str, data: Mapping[str, Any]) -> str:
    """Return the page with its tables made anew. Raises ConfigurationError where a marker is missing."""
    parts: list[str] = []
    for table in tenant_tables():
        kind = table.path.rpartition(".")[2]
        of_kind = "" if not table.path or table.head.strip("[]").endswith(kind) else f', `kind = "{kind}"`'
        parts.append(f"## {f'`{table.head}`' if table.head else 'Above all tables'}{of_kind}\n")
        known = data.get(table.path)
        effect = f" To add or delete it changes: {on_aws(known['on_aws'])}." if known else ""
        parts.append(f"{table.what}{effect}\n\n".replace("``", "`") if table.what else "\n")
        if table.keys:
            head = ("key", "type", "default", "example", "what", "on AWS")
            parts.append(markdown_table(head, [_row(key, data[key.path]) for key in table.keys]) + "\n")
    return with_table(page, "".join(parts), begin="keys, made by", end="end of keys")


def _row(key: Key, known: Mapping[str, Any]) -> Sequence[str]:
    field = key.field
    default = "**required**" if field.is_required() else toml(field.get_default(call_default_factory=True))
    name, example = f"`{key.path.rpartition('.')[2]}`", toml(known["example"])
    cells = (name, type_of(field), default, example, key.what.replace("``", "`"), on_aws(known["on_aws"]))
    return [cell.replace("|", "\\|") for cell in cells]


if __name__ == "__main__":
    made = with_keys(PAGE.read_text(encoding="utf-8"), json.loads(DATA.read_text(encoding="utf-8")))
    PAGE.write_text(made, encoding="utf-8")
