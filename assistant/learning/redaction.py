"""Raw captured calls → clean ones: structure, ids, times, counts and hashes; no text of anybody's.

A clean line is built anew from what is known to be harmless, never by taking things out of the raw one: a
field that nobody thought of cannot pass. Texts are dropped whole, because nothing finds every name and story
in a care agent's question (docs/decisions/0020-captured-texts-are-dropped.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from assistant.settings.deployed_names import CAPTURE_PURPOSES, capture_attribute

SCHEMA_VERSION = 2
"""2 added ``purpose``."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z")
_MODEL = re.compile(r"[A-Za-z0-9._/-]{1,120}")
_ROLES = frozenset({"system", "user", "assistant", "tool"})
_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
_PARAMETERS = ("max_tokens", "temperature", "top_p", "seed", "n", "stream")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")

Clean = dict[str, Any]
_Object = Mapping[str, Any]
_NOTHING: _Object = {}


def redacted(raw: bytes, *, passages_percent: int) -> Iterator[bytes]:
    """Yield a clean line for each line of SageMaker's data capture (JSON Lines) that is not blank.

    Of calls that embedded passages of the corpus only ``passages_percent`` of a hundred are kept, the same
    ones each time; a load of the corpus makes thousands, and the documents themselves are in their store.
    """
    for line in raw.splitlines():
        if not line.strip():
            continue
        clean = _clean_line(line)
        if clean.get("purpose") != "passage" or _place(line) < passages_percent:
            yield orjson.dumps(clean, option=orjson.OPT_SORT_KEYS) + b"\n"


def _place(line: bytes) -> int:
    """Return 0 to 99, by the whole line: as good as drawn, and drawn alike when it is done again."""
    return int.from_bytes(hashlib.sha256(line).digest()[:8]) % 100


def _clean_line(line: bytes) -> Clean:
    call = _object(_parsed(line))
    if "captureData" not in call:
        return {"schema_version": SCHEMA_VERSION, "readable": False, "size_bytes": len(line)}
    data, event = _object(call["captureData"]), _object(call.get("eventMetadata"))
    return {
        "schema_version": SCHEMA_VERSION,
        "readable": True,
        "event_id": _matching(_ID, event.get("eventId")),
        "inference_id": _matching(_ID, event.get("inferenceId")),
        "purpose": _purpose(event.get("customAttributes")),
        "inference_time": _matching(_TIME, event.get("inferenceTime")),
        "request": _clean_request(_object(data.get("endpointInput"))),
        "response": _clean_response(_object(data.get("endpointOutput"))),
    }


def _purpose(attributes: object) -> str | None:
    given = [attributes] if isinstance(attributes, str) else _list(attributes)
    return next((one for one in CAPTURE_PURPOSES if capture_attribute(one) in given), None)


def _clean_request(captured: _Object) -> Clean:
    content = _content(captured)
    body = _object(_parsed(content))
    messages = [_object(message) for message in _list(body.get("messages"))]
    inputs = _list(body.get("inputs"))
    return {
        **_measures(content),
        "model": _matching(_MODEL, body.get("model")),
        "parameters": {name: body[name] for name in _PARAMETERS if _is_number(body.get(name))},
        "messages": [
            {"role": _one_of(_ROLES, message.get("role")), "characters": _characters(message.get("content"))}
            for message in messages
        ],
        "inputs": [{"characters": _characters(text)} for text in inputs],
    }


def _clean_response(captured: _Object) -> Clean:
    """Of a streamed answer too, as far as its parts say what the whole one would."""
    content = _content(captured)
    parts = _parts(content)
    choices = [_object(choice) for part in parts for choice in _list(part.get("choices"))]
    usages = [_object(part.get("usage")) for part in parts]
    usage = next((one for one in reversed(usages) if one), _NOTHING)
    reasons = [_one_of(_FINISH_REASONS, choice.get("finish_reason")) for choice in choices]
    return {
        **_measures(content),
        "id": next((_matching(_ID, part.get("id")) for part in parts), None),
        "model": next((_matching(_MODEL, part.get("model")) for part in parts), None),
        "characters": sum(_characters(_text_of(choice)) for choice in choices),
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
    return (_object(choice.get("message")) or _object(choice.get("delta"))).get("content")


def _measures(content: bytes) -> Clean:
    """Size and hash of a body as it was sent: two calls are the same, or are not, without saying what."""
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest() if content else None}


def _content(captured: _Object) -> bytes:
    data = captured.get("data")
    if not isinstance(data, str):
        return b""
    if captured.get("encoding") == "BASE64":
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            return b""
    return data.encode()


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


def _characters(value: object) -> int:
    return len(value) if isinstance(value, str) else 0
