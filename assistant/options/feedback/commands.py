"""``assistant learn erase`` and ``assistant models capture``, and what other commands that learn share.

``capture`` finds the calls of a model that went wrong, each with the record of its answer. It shows no word
of them but those that the tenant's file lets the redactor keep.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import orjson
import typer
from rich.table import Table
from typer import Option

from assistant.answer.check import CUT_SHORT
from assistant.domain.answers import AnswerRecord, Outcome
from assistant.domain.audit import AccessQuery
from assistant.domain.errors import ConfigurationError
from assistant.process.private_files import CAPTURE_FOLDER
from assistant.process.settings import LocalSettings
from assistant.stores.captures import StoredCaptures
from assistant.stores.desk import DESK, TwoPeople
from assistant.stores.events import ERASURE_KEYS
from assistant.stores.records import RECORDS, StoredRecords
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, cli_reader, plain, table

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

CONTENTS = "Of the second person, under hipaa: the contents that the first one's refusal told."
CallFault = Literal["failed", "cut", "slow", "withheld", "not captured", "unreadable"]
"""``cut``: the model ran into its limit of tokens, or a filter ended it. ``withheld``: its text has a value
that nothing which it was given holds. ``not captured``: the record names a call of which there is no line."""
_READABLE = (2, 3)
"""Versions of a line: of the redactor, and of the release before, whose lines have no text."""
_HOUR = re.compile(r"/(\d{4})/(\d{2})/(\d{2})/(\d{2})/")
_Line = Mapping[str, Any]
_WITHOUT_TEXT = {
    *("answer_id", "asked_at", "outcome", "finish_reason", "error_code", "certainty", "degraded"),
    *("model_id", "model_digest", "variant", "prompt_id", "prompt_hash", "weights", "usage", "timings_ms"),
}
_captures = typer.Typer(no_args_is_help=True, add_completion=False)


def add_to_learn(learn: typer.Typer) -> None:
    learn.command()(erase)


def add_to_models(models: typer.Typer) -> None:
    models.add_typer(_captures, name="capture", help="Find captured calls that went wrong.")


def erase(
    context: typer.Context,
    tenant: Tenant,
    member: Annotated[
        str, Option("--member", metavar="NUMBER", help="Member number, however it is written.")
    ],
    contents: Annotated[str | None, Option(metavar="HASH", help=CONTENTS)] = None,
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are. Under the
    profile hipaa a second person must give the same command."""
    from assistant.options.feedback.opened import feedback_of, local_signals
    from assistant.options.feedback.signals import Erased, ErasePatient

    options = GlobalOptions.of(context)
    config, state_dir = options.tenant(tenant), options.state_dir.resolve()
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    signals = local_signals(config, tenants_dir=options.tenants_dir, state_dir=state_dir)

    async def destroy(stores: EmbeddedTenant) -> Erased:
        keys, feedback = stores.get(ERASURE_KEYS), await feedback_of(stores, config.name)
        two_people = TwoPeople(stores.get(DESK), is_needed=config.needs_two_people)
        erase = ErasePatient(signals=signals, keys=keys, feedback=feedback, two_people=two_people)
        return await erase(member, by=cli_reader(), named=contents)

    erased = options.with_stores(tenant, destroy)
    told = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        told = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    show(options, asdict(erased), told, *(f"  {name}" for name in (erased.subject, *erased.texts)))


def show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print JSON for a program to read, else lines and tables."""
    if not options.writes(value):
        for part in parts:
            Terminal().out.print(plain(part) if isinstance(part, str) else part)


# --- capture ----------------------------------------------------------------------------------------------
Hours = Annotated[int, Option("--hours", min=1, max=24 * 90, metavar="N", help="How far back.")]
OfDeployment = Annotated[
    bool, Option("--deployed", help="Of a deployment, which ASSISTANT_PREPARE_… names: inside its network.")
]


@_captures.command("list")
def list_calls(
    context: typer.Context,
    tenant: Tenant,
    hours: Hours = 24,
    only: Annotated[
        list[str] | None, Option(metavar="FAULT", help=f"Of {', '.join(get_args(CallFault))}. Repeatable.")
    ] = None,
    slow_s: Annotated[float, Option(min=0.1, metavar="S", help="An answer is slow from then on.")] = 10.0,
    deployed: OfDeployment = False,
) -> None:
    """List calls with what is wrong with each: failed, cut, slow, withheld text, not captured."""
    options, wanted = GlobalOptions.of(context), set(only or ())
    if unknown := sorted(wanted.difference(get_args(CallFault))):
        raise ConfigurationError(f"--only {unknown[0]}: write one of {', '.join(get_args(CallFault))}.")
    calls = asyncio.run(_calls(options, tenant, hours, deployed=deployed))
    has_capture = options.tenant(tenant).generation.has_endpoint
    rows = [(call, call.faults(slow_ms=1000 * slow_s, has_capture=has_capture)) for call in calls]
    rows = [(call, faults) for call, faults in rows if not wanted or wanted.intersection(faults)]
    if options.json:
        Terminal().json([{**call.facts(), "faults": faults} for call, faults in rows])
        return
    headings = ("answer", "asked", "in", "out", "total ms", "what is wrong", "inference id")
    shown = table(*headings, right=("in", "out", "total ms"), rows=[_row(*row) for row in rows])
    out = Terminal().out
    out.print(shown if rows else plain(f"No call in the last {hours} hours{_advice(options, calls)}."))


async def _calls(options: GlobalOptions, tenant: str, hours: int, *, deployed: bool) -> list[CapturedCall]:
    until = datetime.now(UTC)
    since = until - timedelta(hours=hours)
    if deployed:
        from assistant.options.feedback.opened import open_deployed_capture

        async with open_deployed_capture(options.preparing(), tenant) as (capture, records):
            return await captured_calls(capture, records, since=since, until=until)
    async with options.stores(tenant) as stores:
        capture = StoredCaptures.here(options.state_dir / CAPTURE_FOLDER)
        return await captured_calls(capture, stores.get(RECORDS), since=since, until=until, shared=True)


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


@dataclass(frozen=True, slots=True)
class CapturedCall:
    """A call of the model that writes. Either of ``line`` and ``record`` may be missing."""

    inference_id: str
    line: _Line | None
    """As the redactor wrote it."""
    record: AnswerRecord | None

    def faults(self, *, slow_ms: float, has_capture: bool = True) -> tuple[CallFault, ...]:
        """Return what is wrong with it; a call is slow from ``slow_ms`` of its answer's time on.
        ``has_capture`` false: the model is behind no endpoint of ours, and its calls have records alone."""
        record, line = self.record, self.line
        response: _Line = {} if line is None else line.get("response", {})
        found: dict[CallFault, bool] = {
            "failed": record is not None and record.outcome is Outcome.FAILED,
            "cut": response.get("finish_reason") == "length"
            or (record is not None and record.finish_reason in CUT_SHORT),
            "slow": record is not None and record.timings_ms.get("total", 0.0) >= slow_ms,
            "withheld": record is not None and any(each.detail == "withheld" for each in record.sentences),
            "not captured": line is None and has_capture,
            "unreadable": line is not None and not line.get("readable"),
        }
        return tuple(name for name, is_so in found.items() if is_so)

    def facts(self) -> Mapping[str, Any]:
        """Return what is known of it: lengths, times, hashes and places, and the words that the redactor kept
        of the call. Of the record no text."""
        record = self.record
        about = None
        if record is not None:
            about = record.model_dump(mode="json", include=_WITHOUT_TEXT) | {
                "documents": [use.document_id for use in record.passages],
                "sentences": [{"support": each.support, "detail": each.detail} for each in record.sentences],
            }
        return {"inference_id": self.inference_id, "call": self.line, "answer": about}


async def captured_calls(
    capture: StoredCaptures, records: StoredRecords, *, since: datetime, until: datetime, shared: bool = False
) -> list[CapturedCall]:
    """Return the calls of [since, until) that a record or a line tells of, oldest first.

    A line of a call of the embedding model is left out: no answer names it. ``shared``: the capture has the
    calls of other tenants too, so a line that can be read counts only where a record of this one names it.
    Raises DependencyError, RecordsUnavailableError.
    """
    lines = {name: line async for name, line in _lines(capture, since, until)}
    of_call: dict[str, AnswerRecord] = {}
    async for record in asked_answers(records, since=since, until=until):
        if record.inference_id is not None:
            of_call[record.inference_id] = record
    if shared:
        lines = {name: line for name, line in lines.items() if name in of_call or not line.get("readable")}
    calls = [CapturedCall(name, lines.get(name), of_call.get(name)) for name in {**of_call, **lines}]
    return sorted(calls, key=_time)


async def asked_answers(
    records: StoredRecords, *, since: datetime, until: datetime
) -> AsyncIterator[AnswerRecord]:
    """Yield the records of the answers asked in [since, until). Raises RecordsUnavailableError."""
    query = AccessQuery(since=since, until=until, limit=1_000)
    while True:
        page = await records.list_accesses(query)
        for entry in page.entries:
            record = await records.get_answer(entry.subject_id) if entry.kind == "asked" else None
            if record is not None:
                yield record
        if page.next_after is None:
            return
        query = AccessQuery(since=since, until=until, limit=1_000, after=page.next_after)


async def _lines(
    capture: StoredCaptures, since: datetime, until: datetime
) -> AsyncIterator[tuple[str, _Line]]:
    first, last = (tuple(f"{time:%Y %m %d %H}".split()) for time in (since, until))
    async for key in capture.clean_keys():
        hour = _HOUR.search(key)
        if hour is None or not first <= hour.groups() <= last:
            continue
        for number, raw in enumerate((await capture.read_clean(key) or b"").splitlines(), start=1):
            line = orjson.loads(raw)
            name = line.get("inference_id") or f"{key}:{number}"
            if line.get("schema_version") not in _READABLE:
                line = {"readable": False, "schema_version": line.get("schema_version")}
            if not line.get("purpose"):
                yield name, line


def _time(call: CapturedCall) -> tuple[str, str]:
    at = call.record.asked_at.isoformat() if call.record else (call.line or {}).get("inference_time")
    return at or "", call.inference_id
