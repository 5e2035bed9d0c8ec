"""Redacts captured calls of models: writes a clean copy of each file, then deletes all its raw versions in
the quarantine.

A clean line is built from fields that are known to be harmless, and not by removing fields of the raw line,
so that no unexpected field can pass. It has structure, ids, times, counts and hashes::

    {"schema_version": 3, "readable": true, "event_id": "…", "inference_id": "…", "purpose": "question",
     "inference_time": "2026-11-28T09:00:00Z", "request": {"size_bytes": 812, …}, "response": {…}}

No method finds every name and story in a care agent's question
(docs/decisions/0020-captured-texts-are-dropped.md). So texts stay only where the tenant file says so:
without the documents of a prompt, with patients' data replaced, and for days
(docs/decisions/0087-captured-texts-with-patients-data-replaced.md).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import orjson
import structlog

from assistant.option import joined
from assistant.process.settings import RedactingSettings
from assistant.stores.captures import StoredCaptures
from assistant.stores.clients import AwsClients
from assistant.tenant.deployed_names import CAPTURE_PURPOSES, capture_attribute

Replace = Callable[[str], str]
"""A function that returns a text with patients' data replaced."""

SCHEMA_VERSION = 3
"""2 added ``purpose``, 3 ``text`` and ``event_version``."""
_EVENT_VERSION = "0"
"""``eventVersion`` of the lines of data capture that are known here."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z")
_MODEL = re.compile(r"[A-Za-z0-9._/-]{1,120}")
_LINES = "<lines>"
"""Stands in each prompt of a reply and of its check, and before their live values."""
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
_PARAMETERS = ("max_tokens", "temperature", "top_p", "seed", "n", "stream")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")

Clean = dict[str, Any]
"""A part of a clean line."""
_Object = Mapping[str, Any]
"""A JSON object of a raw line, whose fields may have any type or be missing."""
_NOTHING: _Object = {}
_log = structlog.get_logger(__name__)


class RedactCapture:
    """Redacts one object (file) of the quarantine. A repeated call writes the same clean copy under the same
    key.

    An object whose lines are all dropped (embedded passages) gets no clean copy.
    """

    def __init__(
        self, store: StoredCaptures, *, passages_percent: int, replace: Replace | None = None
    ) -> None:
        """``passages_percent``: see ``redacted``. ``replace``: None keeps no text."""
        self._store = store
        self._passages_percent = passages_percent
        self._replace = replace

    async def __call__(self, key: str) -> None:
        raw = await self._store.read_raw(key)
        if raw is not None:
            # A generator: the thread that joins the lines also parses and redacts them, off the event loop.
            lines = redacted(raw, passages_percent=self._passages_percent, replace=self._replace)
            clean = await asyncio.to_thread(b"".join, lines)
            if clean:
                await self._store.put_clean(key, clean)
            _log.info("capture_redacted", key=key, raw_bytes=len(raw), clean_bytes=len(clean))
        # Also where there is no newest version: older versions may exist under a delete marker.
        await self._store.delete_raw(key)


class SweepQuarantine:
    """Redacts overdue objects: those whose event was lost, or whose function failed each time."""

    def __init__(self, store: StoredCaptures, *, redact: RedactCapture, overdue_after_s: float):
        self._store = store
        self._redact = redact
        self._overdue_after_s = overdue_after_s

    async def __call__(self) -> float:
        """Redact the overdue objects. Return the age in seconds of the oldest raw object that is left, or 0.

        An object that fails does not stop the others. Raises DependencyError when the quarantine cannot be
        listed.
        """
        oldest_s, now = 0.0, await self._store.now()
        for key, written_at in (await self._store.raw_objects()).items():
            age_s = (now - written_at).total_seconds()
            if age_s >= self._overdue_after_s and await self._redacted(key):
                continue
            oldest_s = max(oldest_s, age_s)
        return oldest_s

    async def _redacted(self, key: str) -> bool:
        """Redact an overdue object; return whether that succeeded."""
        try:
            await self._redact(key)
        except Exception:  # noqa: BLE001 (the edge of one object: it must not stop the others)
            _log.exception("overdue_capture_not_redacted", key=key)
            return False
        _log.warning("overdue_capture_redacted", key=key)
        return True


@dataclass(frozen=True, slots=True)
class Redacting:
    """What the functions ``redact_capture`` and ``sweep_quarantine`` need."""

    redact: RedactCapture
    sweep: SweepQuarantine
    metrics_service: str


@asynccontextmanager
async def open_redacting(settings: RedactingSettings) -> AsyncGenerator[Redacting]:
    """Open the quarantine and the clean copies of the function's tenant."""
    async with AsyncExitStack() as stack:
        store = StoredCaptures.on_aws(
            await AwsClients(settings, stack).aws("s3"),
            quarantine_bucket=settings.quarantine_bucket,
            capture_bucket=settings.capture_bucket,
        )
        replace = _replaces(is_kept=settings.keeps_texts)
        redact = RedactCapture(store, passages_percent=settings.passages_percent, replace=replace)
        overdue_after_s = settings.overdue_after_s
        sweep = SweepQuarantine(store, redact=redact, overdue_after_s=overdue_after_s)
        yield Redacting(redact, sweep, settings.metrics_service)


def _replaces(*, is_kept: bool) -> Replace | None:
    """Return the function that replaces patients' data; None where no text is kept, as without an option that
    has one."""
    return next(iter(joined(lambda option: option.replacer())), None) if is_kept else None


def redacted(raw: bytes, *, passages_percent: int, replace: Replace | None = None) -> Iterator[bytes]:
    """Yield a clean line for each line of SageMaker's data capture (JSON Lines) that is not blank.

    ``passages_percent``: share of the calls that embedded passages which is kept. A line's hash decides, so a
    repeated call keeps the same lines. A load of the corpus makes thousands, and the documents are in their
    store.
    """
    for line in raw.splitlines():
        if not line.strip():
            continue
        clean = _clean_line(line, replace)
        hash_percent = int.from_bytes(hashlib.sha256(line).digest()[:8]) % 100  # 0 to 99
        if clean.get("purpose") != "passage" or hash_percent < passages_percent:
            yield orjson.dumps(clean, option=orjson.OPT_SORT_KEYS) + b"\n"


def _clean_line(line: bytes, replace: Replace | None) -> Clean:
    """Return the clean line of one captured call; one of another format has only its size and version."""
    call = _object(_parsed(line))
    version = call.get("eventVersion")
    if "captureData" not in call or ("eventVersion" in call and version != _EVENT_VERSION):
        unreadable = {"readable": False, "size_bytes": len(line), "event_version": _matching(_ID, version)}
        return {"schema_version": SCHEMA_VERSION, **unreadable}
    data, event = _object(call["captureData"]), _object(call.get("eventMetadata"))
    purpose = _purpose(event.get("customAttributes"))
    if purpose == "passage" or _is_of_reply(_object(data.get("endpointInput"))):
        replace = None  # documents have a store of their own, which a withdrawal reaches; live values none
    return {
        "schema_version": SCHEMA_VERSION,
        "readable": True,
        "event_id": _matching(_ID, event.get("eventId")),
        "inference_id": _matching(_ID, event.get("inferenceId")),
        "purpose": purpose,
        "inference_time": _matching(_TIME, event.get("inferenceTime")),
        "request": _clean_request(_object(data.get("endpointInput")), replace),
        "response": _clean_response(_object(data.get("endpointOutput")), replace),
    }


def _purpose(attributes: object) -> str | None:
    """Return the purpose that the caller gave as a custom attribute (``capture_attribute``)."""
    given = [attributes] if isinstance(attributes, str) else _list(attributes)
    return next((known for known in CAPTURE_PURPOSES if capture_attribute(known) in given), None)


def _is_of_reply(captured: _Object) -> bool:
    """Return whether a call wrote or checked a reply to a patient: its prompt has lines of documents, and may
    have live values, which no capture keeps."""
    messages = _list(_object(_parsed(_content(captured))).get("messages"))
    return any(_LINES in str(_object(message).get("content")) for message in messages)


def _clean_request(captured: _Object, replace: Replace | None) -> Clean:
    """Return the clean request: ``messages`` of a chat, or ``inputs`` of an embedding."""
    content = _content(captured)
    body = _object(_parsed(content))
    messages = [_object(message) for message in _list(body.get("messages"))]
    inputs = _list(body.get("inputs"))
    return {
        **_measures(content),
        "model": _matching(_MODEL, body.get("model")),
        "parameters": {name: body[name] for name in _PARAMETERS if _is_number(body.get(name))},
        "messages": [
            {"role": _one_of(_ROLES, message.get("role")), **_clean_text(message.get("content"), replace)}
            for message in messages
        ],
        "inputs": [_clean_text(text, replace) for text in inputs],
    }


def _clean_response(captured: _Object, replace: Replace | None) -> Clean:
    """Return the clean response. Of a streamed answer the texts of its chunks are joined, and the last finish
    reason and usage count."""
    content = _content(captured)
    parts = _parts(content)
    choices = [_object(choice) for part in parts for choice in _list(part.get("choices"))]
    usages = [_object(part.get("usage")) for part in parts]
    usage = next((usage for usage in reversed(usages) if usage), _NOTHING)
    texts = [text for choice in choices if isinstance(text := _text_of(choice), str)]
    reasons = [_one_of(_FINISH_REASONS, choice.get("finish_reason")) for choice in choices]
    return {
        **_measures(content),
        "id": next((_matching(_ID, part.get("id")) for part in parts), None),
        "model": next((_matching(_MODEL, part.get("model")) for part in parts), None),
        **_clean_text("".join(texts), replace),
        "finish_reason": next((reason for reason in reversed(reasons) if reason), None),
        "usage": {name: usage[name] for name in _COUNTS if _is_number(usage.get(name))},
    }


def _parts(content: bytes) -> list[_Object]:
    """Return the JSON objects of a body: one, or one for each ``data:`` line of server-sent events."""
    whole = _object(_parsed(content))
    if whole:
        return [whole]
    lines = [line[5:].strip() for line in content.splitlines() if line.startswith(b"data:")]
    return [part for part in (_object(_parsed(line)) for line in lines) if part]


def _text_of(choice: _Object) -> object:
    """Return the text of a choice: of a whole answer or of a chunk."""
    return (_object(choice.get("message")) or _object(choice.get("delta"))).get("content")


def _clean_text(text: object, replace: Replace | None) -> Clean:
    """Return a text's length and, where texts are kept, the text without documents and patients' data:
    ``{"characters": 26, "text": "When does [NAME] get it?"}``.

    A text that the filter fails on is left out.
    """
    if not isinstance(text, str):
        return {"characters": 0}
    clean: Clean = {"characters": len(text)}
    if replace is not None:
        try:
            clean["text"] = replace(_without_documents(text))
        except Exception as error:  # noqa: BLE001 (the edge of one text, whose words may be in the message)
            _log.error("captured_text_dropped", error=type(error).__name__)
    return clean


def _without_documents(text: str) -> str:
    """Return a prompt without its documents (``<document …>…</document>``): the record names them, and their
    store has their text until they are withdrawn."""
    return "".join(part.partition("<document ")[0] for part in text.split("</document>")).strip()


def _measures(content: bytes) -> Clean:
    """Return size and hash of a body, by which equal bodies can be told."""
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest() if content else None}


def _content(captured: _Object) -> bytes:
    """Return the body of ``endpointInput`` or ``endpointOutput``; empty where there is none, or where it is
    not the Base64 that its ``encoding`` promises."""
    data = captured.get("data")
    if not isinstance(data, str):
        return b""
    if captured.get("encoding") == "BASE64":
        try:
            return base64.b64decode(data, validate=True)
        except ValueError:  # also binascii.Error, its subclass; ValueError itself: not ASCII
            return b""
    return data.encode()


# Readers of untrusted JSON: each returns None, or an empty value, for a value of another type.
def _parsed(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _object(value: object) -> _Object:
    return cast("_Object", value) if isinstance(value, dict) else _NOTHING


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _one_of(known: frozenset[str], value: object) -> str | None:
    return value if isinstance(value, str) and value in known else None


def _is_number(value: object) -> bool:
    return isinstance(value, bool | int | float)
