"""``assistant models capture``: finds the calls of a model that went wrong.

It shows no word of them but those that the tenant's file lets the redactor keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

import typer
from typer import Option

from assistant.domain.errors import ConfigurationError
from assistant.options.feedback.captures import CallFault, CapturedCall, captured_calls
from assistant.process.private_files import CAPTURE_FOLDER
from assistant.process.settings import LocalSettings
from assistant.stores.captures import StoredCaptures
from assistant.stores.records import StoredRecords
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain, table

app = typer.Typer(no_args_is_help=True, add_completion=False)


def add_to_models(models: typer.Typer) -> None:
    models.add_typer(app, name="capture", help="Find captured calls that went wrong.")


Hours = Annotated[int, Option("--hours", min=1, max=24 * 90, metavar="N", help="How far back.")]
Only = Annotated[
    list[str] | None, Option(metavar="FAULT", help=f"Of {', '.join(get_args(CallFault))}. Repeatable.")
]
OfDeployment = Annotated[
    bool, Option("--deployed", help="Of a deployment, which ASSISTANT_PREPARE_… names: inside its network.")
]


@app.command("list")
def list_calls(
    context: typer.Context,
    tenant: Tenant,
    hours: Hours = 24,
    only: Only = None,
    slow_s: Annotated[float, Option(min=0.1, metavar="S", help="An answer is slow from then on.")] = 10.0,
    deployed: OfDeployment = False,
) -> None:
    """List calls with what is wrong with each: failed, cut, slow, withheld text, not captured."""
    options, wanted = GlobalOptions.of(context), set(only or get_args(CallFault))
    if unknown := sorted(wanted - set(get_args(CallFault))):
        raise ConfigurationError(f"--only {unknown[0]}: write one of {', '.join(get_args(CallFault))}.")
    calls = _calls(options, tenant, hours, deployed=deployed)
    has_capture = options.tenant(tenant).generation.has_endpoint
    rows = [(call, call.faults(slow_ms=1000 * slow_s, has_capture=has_capture)) for call in calls]
    rows = [(call, faults) for call, faults in rows if only is None or wanted & set(faults)]
    if options.json:
        Terminal().json([{**call.facts(), "faults": faults} for call, faults in rows])
        return
    headings = ("answer", "asked", "in", "out", "total ms", "what is wrong", "inference id")
    shown = table(*headings, right=("in", "out", "total ms"), rows=[_row(*row) for row in rows])
    out = Terminal().out
    out.print(shown if rows else plain(f"No call in the last {hours} hours{_advice(options, calls)}."))


def _calls(options: GlobalOptions, tenant: str, hours: int, *, deployed: bool) -> list[CapturedCall]:
    until = datetime.now(UTC)

    async def read() -> list[CapturedCall]:
        async with _open(options, tenant, deployed=deployed) as (capture, records):
            since = until - timedelta(hours=hours)
            return await captured_calls(capture, records, since=since, until=until, shared=not deployed)

    return asyncio.run(read())


@asynccontextmanager
async def _open(
    options: GlobalOptions, tenant: str, *, deployed: bool
) -> AsyncGenerator[tuple[StoredCaptures, StoredRecords]]:
    from assistant.options.feedback.opened import open_deployed_capture
    from assistant.stores.records import RECORDS

    if deployed:
        async with open_deployed_capture(options.preparing(), tenant) as opened:
            yield opened
        return
    async with options.stores(tenant) as stores:
        yield StoredCaptures.here(options.state_dir / CAPTURE_FOLDER), stores.get(RECORDS)


def _advice(options: GlobalOptions, calls: Sequence[CapturedCall]) -> str:
    if calls or options.local_settings().capture:
        return ""
    return f"; {LocalSettings.variable('capture')}=true before a start captures them"


def _row(call: CapturedCall, faults: Sequence[str]) -> tuple[str, ...]:
    record = call.record
    usage = record.usage if record else None
    return (
        record.answer_id if record else "",
        f"{record.asked_at:%Y-%m-%d %H:%M:%S}" if record else str((call.line or {}).get("inference_time")),
        str(usage.prompt_tokens) if usage else "",
        str(usage.completion_tokens) if usage else "",
        f"{record.timings_ms.get('total', 0.0):.0f}" if record else "",
        ", ".join(faults),
        call.inference_id,
    )
