"""``python -m tools.pages [cdk.out|keys|schemas]``: writes what pages of docs have of templates and settings.

- of templates, by default ``cdk.out``: what tenants cost (docs/cost.md), what reaches and calls what
  (docs/architecture.md), and the environment variables of the processes (docs/start-alone.md);
- ``keys``: the tables of docs/tenant-file.md, off the settings' classes. docs/tenant-file.json says what a
  key changes on AWS: ``make tenant-file`` measures it;
- ``schemas``: docs/openapi.json, and the schemas of options.

Tests find drift.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from assistant.cli.aws.cost import Bill, make_bill, rows_of
from assistant.cli.aws.templates import prove
from assistant.domain.errors import ConfigurationError
from assistant.option import Place
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
from assistant.tenant.toml_file import KeyMark, OpenSection, StrictModel, with_options
from template_checks import InvalidInputError
from template_checks.reachability import Report
from template_checks.templates import Templates
from template_checks.upgrades import templates_by_stack_name
from tools.tables import markdown_table, with_table

DOCS = Path(__file__).parents[1] / "docs"
COSTS, REACH, VARIABLES = (DOCS / f"{name}.md" for name in ("cost", "architecture", "start-alone"))


# --- costs ------------------------------------------------------------------------------------------------
def with_costs(page: str, *, assembly: Path, tenants: Path) -> str:
    """Return the page with a new table of costs, for every tenant of ``cdk.out``, by its file.

    Raises ConfigurationError where something has no price.
    """
    prices, bills = load_prices(), dict[str, Bill]()
    for folder in sorted(assembly.glob("assembly-*")):
        name, templates = folder.name.removeprefix("assembly-").lower(), templates_by_stack_name(folder)
        of_tenant = prices.of_tenant(load_tenant(tenants / f"{name}.toml"))
        load = of_tenant.load.questions_a_month
        bills[name] = make_bill(list(templates.values()), of_tenant, questions=load)
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
    meanings = dict(docstrings(settings))
    on_aws = settings.on_aws if issubclass(settings, StoreSettings) else ()
    for name, field in settings.model_fields.items():
        default = "needed with `stores=aws`" if name in on_aws else _default(field)
        what = re.sub(r"`(\w+)`", lambda found: _named(found, settings), meanings[name])
        variable = field.validation_alias or settings.variable(name)
        values = "JSON" if get_origin(field.annotation) in (dict, tuple) else type_of(field)
        rows.append((f"`{variable}`", values, default, what))
    return rows


def _named(found: re.Match[str], settings: type[ProcessSettings]) -> str:
    """Return the variable of a field that a sentence names."""
    return f"`{settings.variable(found[1])}`" if found[1] in settings.model_fields else found[0]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None or field.default in (None, "", ()):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


PAGE = DOCS / "tenant-file.md"
DATA = PAGE.with_suffix(".json")
"""Key = ``example``, and ``on_aws``: stack = what is lost there; a text where nothing is measured."""
_NUMBERS = {"exclusiveMinimum": "over {:g}", "minimum": "{:g} or more", "maximum": "at most {:g}"}
_BOUNDS = _NUMBERS | {"minItems": "{} or more", "maxItems": "at most {}"}
_KINDS = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number"}
_SERVICE_STACKS = "Ingestion, Learning, Orchestrator"
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
        if KeyMark.IN_A_FILE in field.metadata or KeyMark.DEPLOYMENT_WRITES in field.metadata:
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
    quiet = "the service" if quiet == _SERVICE_STACKS else quiet
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


SCHEMAS = Place[Mapping[str, Callable[[], bytes]]]("schemas of docs")
"""File of the docs = what makes it."""


def main(assembly: Path) -> None:
    """Write the tables anew. Raises ConfigurationError, InvalidInputError."""
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    reach = Templates.read([assembly / "assembly-Pharmacy"])
    costs = with_costs(COSTS.read_text(encoding="utf-8"), assembly=assembly, tenants=DOCS.parent / "tenants")
    COSTS.write_text(costs, encoding="utf-8")
    REACH.write_text(with_reach(REACH.read_text(encoding="utf-8"), reach), encoding="utf-8")
    VARIABLES.write_text(with_variables(VARIABLES.read_text(encoding="utf-8")), encoding="utf-8")


def write_keys() -> None:
    """Write docs/tenant-file.md anew."""
    made = with_keys(PAGE.read_text(encoding="utf-8"), json.loads(DATA.read_text(encoding="utf-8")))
    PAGE.write_text(made, encoding="utf-8")


def write_schemas() -> None:
    """Write docs/openapi.json and the schemas of options anew."""
    (DOCS / "openapi.json").write_bytes(rendered(openapi_document(build_routes())))
    for schemas in SCHEMAS.joined():
        for name, schema in schemas.items():
            (DOCS / name).write_bytes(schema())


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["keys"]:
                write_keys()
            case ["schemas"]:
                write_schemas()
            case given:
                main(Path(given[0] if given else "cdk.out"))
    except (ConfigurationError, InvalidInputError) as error:
        sys.exit(error.message)
