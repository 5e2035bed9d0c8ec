"""Writes the tables and lists in pages of docs that follow from templates and from the classes of settings.

- ``python -m tools.pages [cdk.out]``, after ``make synth``: what tenants cost (docs/cost.md), what reaches
  and calls what (docs/architecture.md), the variables of the processes (docs/start-alone.md);
- ``python -m tools.pages keys``: the keys of each table of the tenant file (docs/tenant-file.md);
- ``python -m tools.pages schemas``: docs/openapi.json, and the schemas of options.

A table stands in its page between two comments, such as ``<!-- costs, made by … -->`` and
``<!-- end of costs -->``; only what is between them is replaced. Tests compare the pages with what is made.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from assistant.cli.aws.cost import Bill, make_bill, rows_of
from assistant.cli.aws.templates import prove
from assistant.domain.errors import ConfigurationError
from assistant.option import installed
from assistant.process.settings import (
    LocalSettings,
    ProcessSettings,
    ServiceSettings,
    StoreSettings,
    WorkerSettings,
)
from assistant.service.app import build_routes, openapi_document, rendered
from assistant.tenant.prices import load_prices
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.tenant.toml_file import KeyMark, models_in, with_options
from template_checks import InvalidInputError
from template_checks.reachability import Report
from template_checks.templates import Templates
from template_checks.upgrades import templates_by_stack_name
from tools.tables import markdown_table, with_table

DOCS = Path(__file__).parents[1] / "docs"
COSTS, REACH, VARIABLES = (DOCS / f"{name}.md" for name in ("cost", "architecture", "start-alone"))


# --- costs ------------------------------------------------------------------------------------------------
def with_costs(page: str, *, assembly: Path, tenants: Path) -> str:
    """Return the page with a new table of costs: a column for each tenant that ``cdk.out`` has templates of.

    Raises ConfigurationError where something has no price.
    """
    prices, bills = load_prices(), dict[str, Bill]()
    for folder in sorted(assembly.glob("assembly-*")):
        name = folder.name.removeprefix("assembly-").lower()
        if not (file := tenants / f"{name}.toml").exists():
            continue  # the stage of an account, or of a care side
        tenant = load_tenant(file)
        bills[name] = make_bill(
            list(templates_by_stack_name(folder).values()),
            prices.of_tenant(tenant),
            questions=prices.load.questions_a_month,
            hours_share=tenant.endpoint_hours_share,
        )
    head = [f"USD a month, {prices.region}, {prices.date}", *bills]
    return with_table(page, markdown_table(head, rows_of(bills)), begin="costs, made by", end="end of costs")


# --- what reaches and calls what --------------------------------------------------------------------------
def reach_table(report: Report) -> str:
    """Return every path as a Markdown table, grouped by source."""
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for row in report.rows:
        grouped[row.source, row.port, row.by, row.judged].append(row.target)
    rows = [
        (source, ", ".join(targets), port, by, judged)
        for (source, port, by, judged), targets in grouped.items()
    ]
    return markdown_table(("from", "reaches", "on", "by", "judged"), rows)


def calls_table(report: Report) -> str:
    """Return the called services by caller as a Markdown table."""
    grouped: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in report.calls:
        grouped[row.caller, row.by, row.judged].add(row.service)
    rows = [
        (caller, ", ".join(sorted(services)), by, judged)
        for (caller, by, judged), services in sorted(grouped.items())
    ]
    return markdown_table(("caller", "calls", "by", "judged"), rows)


def with_reach(page: str, templates: Templates) -> str:
    """Return the page with its two tables made anew. Raises ConfigurationError where a marker is missing."""
    report = prove(templates)
    for name, table in (("reach", reach_table(report)), ("calls", calls_table(report))):
        page = with_table(page, table, begin=f"made: {name}", end=f"/made: {name}")
    return page


# --- environment variables ----------------------------------------------------------------------------------
_SERVICE, _WORKER = "ASSISTANT_SERVICE_", "ASSISTANT_WORKER_"


def with_variables(page: str) -> str:
    """Return the page with new lists of variables. The worker's has only the entries that differ from the
    service's; a line above it names the others."""
    service, worker, local = map(_variables, (ServiceSettings, WorkerSettings, LocalSettings))
    shared = [name for name, entry in worker.items() if entry.replace(_WORKER, _SERVICE) in service.values()]
    differing = "".join(entry for name, entry in worker.items() if name not in shared)
    worker_part = f"As those of the service: {', '.join(shared)}.\n\n{differing}"
    lists = ("".join(service.values()), worker_part, "".join(local.values()))
    for name, text in zip(("service", "worker", "command line"), lists, strict=True):
        page = with_table(page, text, begin=f"variables of the {name},", end="end")
    return page


def _variables(settings: type[ProcessSettings]) -> dict[str, str]:
    """Return the entry of each variable by its name."""
    entries: dict[str, str] = {}
    what_by_field = dict(docstrings(settings))
    needed_on_aws = settings.on_aws if issubclass(settings, StoreSettings) else ()
    for name, field in settings.model_fields.items():
        default = "needed with `stores=aws`" if name in needed_on_aws else _default(field)
        what = re.sub(r"`(\w+)`", lambda quoted: _as_variable(quoted, settings), what_by_field[name])
        variable = f"`{field.validation_alias or settings.variable(name)}`"
        values = "JSON" if get_origin(field.annotation) in (dict, tuple) else type_of(field)
        entries[variable] = _entry(variable, values, default, what=what)
    return entries


def _entry(name: str, *value: str, what: str) -> str:
    """Return the line of a variable or a key; empty parts of ``value`` are left out.

    >>> _entry("`PORT`", "whole number", "", "default `80`", what="Port to listen on.")
    '- `PORT` (whole number; default `80`): Port to listen on.\\n'
    """
    return f"- {name} ({'; '.join(filter(None, value))}): {what}\n"


def _as_variable(quoted: re.Match[str], settings: type[ProcessSettings]) -> str:
    """Return a word between backticks as the variable of the field that it names; any other as it is."""
    return f"`{settings.variable(quoted[1])}`" if quoted[1] in settings.model_fields else quoted[0]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None or field.default in (None, "", ()):
        return ""
    return f"default `{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


# --- keys of the tenant file --------------------------------------------------------------------------------
PAGE = DOCS / "tenant-file.md"
DATA = PAGE.with_suffix(".json")
"""Path of a key or table = what only a deployment shows of it; ``make tenant-file`` measures it
(tests/stacks/test_tenant_file_page.py)::

    "models.llm": {"example": "qwen3-8b", "on_aws": {"Keys": [], "Models": ["replaces SageMaker::Model"]}}
    "name": {"example": "company", "on_aws": "a new deployment"}

``on_aws`` has the stacks that another value changes, with the resources that CloudFormation then replaces or
removes; a text where nothing is measured. A table has no ``example``, and is left out if it was not measured.
"""
_NUMBERS = {"exclusiveMinimum": "over {:g}", "minimum": "{:g} or more", "maximum": "at most {:g}"}
_BOUNDS = _NUMBERS | {"minItems": "{} or more", "maxItems": "at most {}"}
_KINDS = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number"}
_SERVICE_STACKS = "the service"
"""What most keys change: left out of a key's row."""
_STACKS = {
    "Ingestion, Learning, Orchestrator": _SERVICE_STACKS,
    "Corpus, Data, Edge, Ingestion, Keys, Learning, Models, Network, "
    "Observability, Orchestrator": "every stack",
}
"""Stacks = what the page calls them where a key changes these and no other. Those of the service hand the
tenant file to their tasks and functions."""
_REVISION = "replaces ECS::TaskDefinition"
"""Left out of the page: every change of what a task is given makes a new revision, which is rolled out."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the tenant file that is no table."""

    path: str
    """Without numbers, and with the kind of a connector: ``reach.port``, ``sources.connector.sql.url``."""
    field: FieldInfo
    what: str
    """The docstring under the field; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the tenant file: the connector of a source that reads a database has the path
    ``sources.connector.sql``, the head ``[sources.connector]`` and the kind ``sql``."""

    path: str
    """As that of a key; empty for the keys above all tables."""
    head: str
    """As a file has it: ``[[reach]]``; empty likewise."""
    kind: str
    """Value of its key ``kind`` where a table may be of several kinds; else empty."""
    what: str
    keys: Sequence[Key] = ()


def tenant_tables() -> Iterator[Table]:
    """Yield every table of the tenant file with its keys and those of all options, an outer table before the
    tables in it; first the keys above all tables.

    Left out are keys that no tenant file has. A table of the same class as an earlier one has no keys:
    ``[embedding_next]`` is written like ``[embedding]``.
    """
    return _tables(with_options(TenantConfig), Table(path="", head="", kind="", what=""), listed=set())


def _tables(model: type[BaseModel], table: Table, *, listed: set[type[BaseModel]]) -> Iterator[Table]:
    """Yield ``table``, whose class is ``model``, with its keys, then the tables in it.

    ``listed``: the classes whose keys a table before it has. Each call adds its own.
    """
    if model in listed:
        yield table
        return
    listed.add(model)
    what_by_key = dict(docstrings(model))
    keys: list[Key] = []
    inner: list[tuple[type[BaseModel], Table]] = []
    for name, field in model.model_fields.items():
        if KeyMark.IN_A_FILE in field.metadata or KeyMark.DEPLOYMENT_WRITES in field.metadata:
            continue
        path, what = f"{table.path}.{name}".lstrip("."), what_by_key.get(name, "")
        classes = list(models_in(field.annotation))
        if not classes:
            keys.append(Key(path, field, what))
        name_in_file = f"{table.head.strip('[]')}.{name}".lstrip(".")
        head = f"[[{name_in_file}]]" if get_origin(field.annotation) is tuple else f"[{name_in_file}]"
        for inner_model in classes:
            kind = get_args(inner_model.model_fields["kind"].annotation)[0] if len(classes) > 1 else ""
            text = what if what and not kind else _first_paragraph(inner_model)
            inner.append((inner_model, Table(f"{path}.{kind}".rstrip("."), head, kind, text)))
    yield replace(table, keys=keys)
    for inner_model, inner_table in inner:
        yield from _tables(inner_model, inner_table, listed=listed)


def _first_paragraph(table: type[BaseModel]) -> str:
    """Return the first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(table.__doc__ or "").split("\n\n")[0].split())


def docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the name of each field and the docstring under it, from the source of the class and its parents,
    which come first, so that in a dict the text of the class counts."""
    for owner in reversed(model.__mro__[:-2]):  # without BaseModel and object
        definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        statements = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, below in pairwise(statements):
            text = below.value if isinstance(below, ast.Expr) else None
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Constant):
                yield ast.unparse(field.target), " ".join(str(text.value).split())


# --- cells ------------------------------------------------------------------------------------------------
def type_of(field: FieldInfo) -> str:
    """Return a field's type in words, with its bounds: ``whole number, 1 to 3650``."""
    annotation: Any = field.annotation
    for bound in field.metadata:  # which pydantic has taken out of the annotation
        annotation = Annotated[annotation, bound]
    return _in_words(TypeAdapter[Any](annotation).json_schema())


def _in_words(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in words.

    >>> _in_words({"type": "array", "minItems": 1, "items": {"type": "string"}})
    'list, 1 or more: text'
    """
    bounds = "".join(f", {words.format(schema[name])}" for name, words in _BOUNDS.items() if name in schema)
    bounds = bounds.replace(" or more, at most", " to")
    match schema:
        case {"anyOf": [*choices]}:
            return " or ".join(_in_words(choice) for choice in choices if choice.get("type") != "null")
        case {"enum": [*values]}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`" if value else '`""`'
        case {"type": "array", "items": items}:
            return f"list{bounds}: {_in_words(items)}"
        case {"type": "object"}:
            values = schema.get("additionalProperties") or {"type": "string"}
            keys = schema.get("propertyNames", {"type": "string"})
            return f"table: {_in_words(keys)} = {_in_words(values)}"
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


def effect_in_words(effect: str | Mapping[str, Sequence[str]]) -> str:
    """Return which stacks a key changes, and what CloudFormation replaces or removes in them.

    >>> lost = ["replaces EC2::Subnet", "removes IAM::Role"]
    >>> effect_in_words({"Data": [], "Edge": lost, "Keys": [], "Models": lost})
    'Data, Keys; **Edge**, **Models** removes IAM::Role, replaces EC2::Subnet'

    ``effect`` is the value of ``on_aws`` in docs/tenant-file.json; a text is returned as it is.
    """
    if isinstance(effect, str):
        return effect
    losses = {stack: [loss for loss in lost if loss != _REVISION] for stack, lost in effect.items()}
    without_loss = ", ".join(stack for stack, lost in losses.items() if not lost)
    stacks_by_loss: dict[str, list[str]] = defaultdict(list)
    for stack, lost in losses.items():
        if lost:
            stacks_by_loss[_grouped(lost)].append(f"**{stack}**")
    with_loss = [f"{', '.join(stacks)} {loss}" for loss, stacks in stacks_by_loss.items()]
    return "; ".join(filter(None, [_STACKS.get(without_loss, without_loss), *with_loss])) or "nothing"


def _grouped(losses: Sequence[str]) -> str:
    """Return ``replaces EC2::Subnet, EC2::VPC`` for "replaces EC2::VPC" and "replaces EC2::Subnet"."""
    pairs = sorted(loss.rpartition(" ")[::2] for loss in losses)  # ("may replace", "EC2::VPC")
    groups = groupby(pairs, key=itemgetter(0))
    return ", ".join(f"{verb} {', '.join(resource for _, resource in group)}" for verb, group in groups)


# --- page -------------------------------------------------------------------------------------------------
def with_keys(page: str, data: Mapping[str, Any]) -> str:
    """Return the page with its keys made anew; ``data`` is docs/tenant-file.json. A key that differs from
    that of an earlier kind by its example alone is named there. Raises ConfigurationError where a marker is
    missing, KeyError for a key that was not measured."""
    parts: list[str] = []
    told: dict[tuple[str, str], _KeyRow] = {}
    for table in tenant_tables():
        of_kind = f', `kind = "{table.kind}"`' if table.kind else ""
        parts.append(f"## {f'`{table.head}`' if table.head else 'Above all tables'}{of_kind}\n")
        measured = data.get(table.path)
        effect = f" To add or delete it changes: {effect_in_words(measured['on_aws'])}." if measured else ""
        parts.append(f"{table.what}{effect}\n\n".replace("``", "`") if table.what else "\n")
        if table.keys:
            rows = [_key_row(key, data[key.path]) for key in table.keys]
            known = [row.name for row in rows if told.get((table.head, row.name)) == replace(row, example="")]
            told |= {(table.head, row.name): replace(row, example="") for row in rows}
            if known:
                parts.append(f"As in the last table above that has them: {', '.join(known)}.\n\n")
            parts.extend(str(row) for row in rows if row.name not in known)
            parts.append("\n")
    return with_table(page, "".join(parts), begin="keys, made by", end="end of keys")


@dataclass(frozen=True, slots=True)
class _KeyRow:
    """A key's entry in the page."""

    name: str
    kind: str
    default: str
    """``**required**`` or ``default `64` ``; empty for none."""
    example: str
    what: str
    effect: str
    """Empty for the service."""

    def __str__(self) -> str:
        example = f"like {self.example}" if self.example else ""
        effect = f" → {self.effect}" if self.effect else ""
        return _entry(self.name, self.kind, self.default, example, what=f"{self.what}{effect}")


def _key_row(key: Key, measured: Mapping[str, Any]) -> _KeyRow:
    """Return the entry of a key. Its example is left out where type and default show as much."""
    field, kind, example = key.field, type_of(key.field), toml(measured["example"])
    default = "" if field.is_required() else toml(field.get_default(call_default_factory=True))
    is_plain = isinstance(measured["example"], int | float)
    if is_plain or example == default or example.strip('`"') in re.findall(r"`(\w+)`", kind):
        example = ""
    effect = effect_in_words(measured["on_aws"])
    return _KeyRow(
        name=f"`{key.path.rpartition('.')[2]}`",
        kind=kind,
        default="**required**" if field.is_required() else f"default {default}" if default else "",
        example=example,
        what=key.what.replace("``", "`"),
        effect="" if effect == _SERVICE_STACKS else effect,
    )


def write_tables(assembly: Path) -> None:
    """Write the tables of costs, paths and variables anew. Raises ConfigurationError, InvalidInputError."""
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    reach = Templates.read([assembly / "assembly-Pharmacy"])
    costs = with_costs(COSTS.read_text(encoding="utf-8"), assembly=assembly, tenants=DOCS.parent / "tenants")
    COSTS.write_text(costs, encoding="utf-8")
    REACH.write_text(with_reach(REACH.read_text(encoding="utf-8"), reach), encoding="utf-8")
    VARIABLES.write_text(with_variables(VARIABLES.read_text(encoding="utf-8")), encoding="utf-8")


def write_keys() -> None:
    """Write docs/tenant-file.md anew."""
    page = with_keys(PAGE.read_text(encoding="utf-8"), json.loads(DATA.read_text(encoding="utf-8")))
    PAGE.write_text(page, encoding="utf-8")


def write_schemas() -> None:
    """Write docs/openapi.json and the schemas of options anew."""
    (DOCS / "openapi.json").write_bytes(rendered(openapi_document(build_routes())))
    for option in installed():
        for name, schema in option.schemas().items():
            (DOCS / name).write_bytes(schema())


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["keys"]:
                write_keys()
            case ["schemas"]:
                write_schemas()
            case arguments:
                write_tables(Path(arguments[0] if arguments else "cdk.out"))
    except (ConfigurationError, InvalidInputError) as error:
        sys.exit(error.message)
