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
that nothing which it was given holds. ``not captured``: the record names a call of which there is no line.
``unreadable``: the redactor could not read the call, or another release wrote the line."""
_READABLE_VERSIONS = (2, 3)
"""Values of a line's ``schema_version``. ``assistant.models.redaction`` writes 3; lines of 2 have no text."""
_HOUR = re.compile(r"/(\d{4})/(\d{2})/(\d{2})/(\d{2})/")
"""Year, month, day and hour (UTC) in the key of a copy: "…/2026/10/18/09/….jsonl"."""
_Line = Mapping[str, Any]
"""A call as the redactor (``assistant.models.redaction``) wrote it, shortened; an unreadable one has
``readable`` false and no ``request`` or ``response``:

    {"schema_version": 3, "readable": true, "inference_id": "9f3c…", "inference_time": "2026-10-18T09:14:03Z",
     "purpose": null, "request": {…}, "response": {"finish_reason": "stop", …}}
"""
_FIELDS_WITHOUT_TEXT = {
    *("answer_id", "asked_at", "outcome", "finish_reason", "error_code", "certainty", "degraded"),
    *("model_id", "model_digest", "variant", "prompt_id", "prompt_hash", "weights", "usage", "timings_ms"),
}
"""Fields of ``AnswerRecord`` that ``--json`` prints; none has words of a question or an answer."""
_captures = typer.Typer(no_args_is_help=True, add_completion=False)


def add_to_learn(learn: typer.Typer) -> None:
    """Add ``assistant learn erase``; ``option.py`` joins this and the next function."""
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
    outcome = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        outcome = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    show(options, asdict(erased), outcome, *(f"  {name}" for name in (erased.subject, *erased.texts)))


def show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print ``value`` as JSON where ``--json`` asks for it, else the lines and tables of ``parts``."""
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
    """Return the calls of the last hours, of a deployment or of this machine. The capture of a machine is
    one folder for all tenants; that of a deployment is the tenant's own."""
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
    """Return how to switch capture on, where no call is there and it is off on this machine; else ""."""
    if calls or options.local_settings().capture:
        return ""
    return f"; {LocalSettings.variable('capture')}=true before a start captures them"


def _row(call: CapturedCall, faults: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of a call, in the order of the headings of ``list_calls``."""
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
    """A call of the model that writes. ``line`` or ``record`` may be None, not both."""

    inference_id: str
    """The id that the record and the line share; KEY:LINE_NUMBER for a line without one."""
    line: _Line | None
    """As the redactor wrote it; None where no copy has the call."""
    record: AnswerRecord | None
    """Record of the answer that the call wrote; None where no answer names the call."""

    def faults(self, *, slow_ms: float, has_capture: bool = True) -> tuple[CallFault, ...]:
        """Return what is wrong with the call, empty if nothing is. It is slow if its answer took ``slow_ms``
        or more. ``has_capture`` false: the tenant has no endpoint of its own, so its calls have no lines."""
        record, line = self.record, self.line
        response: _Line = {} if line is None else line.get("response", {})
        holds: dict[CallFault, bool] = {
            "failed": record is not None and record.outcome is Outcome.FAILED,
            "cut": response.get("finish_reason") == "length"
            or (record is not None and record.finish_reason in CUT_SHORT),
            "slow": record is not None and record.timings_ms.get("total", 0.0) >= slow_ms,
            "withheld": record is not None
            and any(sentence.detail == "withheld" for sentence in record.sentences),
            "not captured": line is None and has_capture,
            "unreadable": line is not None and not line.get("readable"),
        }
        return tuple(fault for fault, is_so in holds.items() if is_so)

    def facts(self) -> Mapping[str, Any]:
        """Return the call as ``--json`` prints it: the redactor's line, and the record's fields that are no
        text. The only words are those that the redactor kept."""
        record = self.record
        answer = None
        if record is not None:
            answer = record.model_dump(mode="json", include=_FIELDS_WITHOUT_TEXT) | {
                "documents": [use.document_id for use in record.passages],
                "sentences": [{"support": item.support, "detail": item.detail} for item in record.sentences],
            }
        return {"inference_id": self.inference_id, "call": self.line, "answer": answer}


async def captured_calls(
    capture: StoredCaptures, records: StoredRecords, *, since: datetime, until: datetime, shared: bool = False
) -> list[CapturedCall]:
    """Return the calls of [since, until) that have a record or a line, oldest first.

    Records are of answers asked in that time; lines are of all hours that it touches. ``shared``: the capture
    also has other tenants' calls, so a readable line counts only where a record of this tenant names it.
    Raises DependencyError, RecordsUnavailableError.
    """
    lines = {call_id: line async for call_id, line in _lines(capture, since, until)}
    answers: dict[str, AnswerRecord] = {}
    async for record in asked_answers(records, since=since, until=until):
        if record.inference_id is not None:
            answers[record.inference_id] = record
    if shared:
        lines = {name: line for name, line in lines.items() if name in answers or not line.get("readable")}
    calls = [CapturedCall(name, lines.get(name), answers.get(name)) for name in {**answers, **lines}]
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
    """Yield the id and the line of each call of the hours from ``since`` to ``until``, both included. Calls
    of the embedding model, whose lines have a ``purpose``, are left out: no answer names them."""
    first, last = (tuple(f"{time:%Y %m %d %H}".split()) for time in (since, until))
    async for key in capture.clean_keys():
        hour = _HOUR.search(key)
        if hour is None or not first <= hour.groups() <= last:
            continue
        for number, raw in enumerate((await capture.read_clean(key) or b"").splitlines(), start=1):
            line = orjson.loads(raw)
            call_id = line.get("inference_id") or f"{key}:{number}"
            if line.get("schema_version") not in _READABLE_VERSIONS:
                line = {"readable": False, "schema_version": line.get("schema_version")}
            if not line.get("purpose"):
                yield call_id, line


def _time(call: CapturedCall) -> tuple[str, str]:
    """Return the order of a call: its time (ISO 8601), else "", then its id."""
    at = call.record.asked_at.isoformat() if call.record else (call.line or {}).get("inference_time")
    return at or "", call.inference_id
