"""Unit tests of the console without a browser, run by Node's test runner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.product import REPOSITORY
from tests.programs import run_node

CONSOLE = REPOSITORY / "assistant" / "service" / "console"


def test_the_console_s_unit_tests_pass() -> None:
    done = run_node(CONSOLE / "run_tests.mjs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_build_is_reproducible() -> None:
    before = {path.name: path.read_bytes() for path in (CONSOLE / "dist").iterdir()}
    assert run_node(CONSOLE / "build.mjs").returncode == 0
    assert {path.name: path.read_bytes() for path in (CONSOLE / "dist").iterdir()} == before


def test_the_wire_types_match_the_api() -> None:
    done = run_node(CONSOLE / "check_wire.mjs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("schema", "drift"),
    [
        ("Done", lambda properties: properties.pop("citations")),
        ("Outcome", lambda values: values.append("expired")),
        ("Source", lambda properties: properties.update(n={"type": "string"})),
        ("Sent", lambda properties: properties.pop("send_id")),
    ],
    ids=["field gone", "new value", "other type", "sent field unknown"],
)
def test_a_difference_between_wire_types_and_api_is_found(
    tmp_path: Path, schema: str, drift: Callable[[Any], object]
) -> None:
    document: dict[str, Any] = json.loads((REPOSITORY / "docs" / "openapi.json").read_text(encoding="utf-8"))
    found = document["components"]["schemas"][schema]
    drift(found["properties"] if "properties" in found else found["enum"])
    drifted = tmp_path / "openapi.json"
    drifted.write_text(json.dumps(document), encoding="utf-8")
    done = run_node(CONSOLE / "check_wire.mjs", str(drifted))
    assert done.returncode != 0
    assert "is not assignable to" in done.stdout
