"""``assistant desk`` against a running service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.errors import InvalidRequestError
from tests.fakes.desk_scene import Desk, desk_scene

GLOSSARY = {
    "kind": "glossary_entry",
    "note": "They say so.",
    "glossary_entry": {"said": "jab", "means": "shot"},
}


@pytest.fixture
async def hipaa(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_scene(tmp_path, two_people=True) as opened:
        yield opened


async def run(desk: Desk, monkeypatch: pytest.MonkeyPatch, *arguments: str, agent: str = "rita") -> Result:
    token = desk.reviewer(agent)["authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("ASSISTANT_LOCAL_SERVICE_TOKEN", token)
    command: Sequence[str] = [*arguments, "--tenant", "clinic", "--service", desk.service.url]
    return await asyncio.to_thread(CliRunner().invoke, app, ["--json", "desk", *command])


def told(result: Result) -> list[Any]:
    """Return the lines of JSON; the service of this process logs between them."""
    return [orjson.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


async def test_a_case_is_listed_resolved_and_approved(
    hipaa: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = await hipaa.case()
    listed = await run(hipaa, monkeypatch, "cases", "--state", "open")
    assert [line["case_id"] for line in told(listed)] == [case]
    file = tmp_path / "resolution.json"
    file.write_bytes(orjson.dumps(GLOSSARY))
    proposed = await run(hipaa, monkeypatch, "resolve", case, "--with", str(file))
    assert told(proposed)[0]["case"]["state"] == "proposed"
    approved = await run(hipaa, monkeypatch, "approve", case, agent="ruth")
    assert told(approved)[0]["case"]["state"] == "resolved"
    shown = await run(hipaa, monkeypatch, "show", case)
    assert [one["by"] for one in told(shown)[0]["history"]] == ["intake", "rita", "ruth"]


async def test_a_wrong_file_says_what_is_wrong(
    hipaa: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = await hipaa.case()
    file = tmp_path / "resolution.json"
    for content, says in ((b"[1]", "must hold a JSON object"), (b'{"kind": "dismissed"}', "needs a note")):
        file.write_bytes(content)
        refused = await run(hipaa, monkeypatch, "resolve", case, "--with", str(file))
        assert isinstance(refused.exception, InvalidRequestError)
        assert says in refused.exception.message
