"""``python -m tools.pages [cdk.out]``: writes the tables of pages that are made from templates and settings.

What tenants cost (docs/cost.md), what reaches and calls what (docs/architecture.md), and the environment
variables of the processes (docs/start-alone.md). Tests find drift.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import get_origin

from pydantic.fields import FieldInfo

from assistant.cli.aws.cost import Bill, make_bill, rows_of
from assistant.cli.aws.templates import prove
from assistant.domain.errors import ConfigurationError
from assistant.process.settings import (
    LocalSettings,
    ProcessSettings,
    ServiceSettings,
    StoreSettings,
    WorkerSettings,
)
from assistant.tenant.prices import load_prices
from assistant.tenant.tenant import load_tenant
from template_checks import InvalidInputError
from template_checks.reachability import Report
from template_checks.templates import Templates
from template_checks.upgrades import templates_by_stack_name
from tools.tables import markdown_table, with_table
from tools.tenant_keys import docstrings, type_of

_DOCS = Path(__file__).parents[1] / "docs"
COSTS, REACH, VARIABLES = (_DOCS / f"{name}.md" for name in ("cost", "architecture", "start-alone"))


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


def main(assembly: Path) -> None:
    """Write the tables anew. Raises ConfigurationError, InvalidInputError."""
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    reach = Templates.read([assembly / "assembly-Pharmacy"])
    costs = with_costs(COSTS.read_text(encoding="utf-8"), assembly=assembly, tenants=_DOCS.parent / "tenants")
    COSTS.write_text(costs, encoding="utf-8")
    REACH.write_text(with_reach(REACH.read_text(encoding="utf-8"), reach), encoding="utf-8")
    VARIABLES.write_text(with_variables(VARIABLES.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "cdk.out"))
    except (ConfigurationError, InvalidInputError) as error:
        sys.exit(error.message)
