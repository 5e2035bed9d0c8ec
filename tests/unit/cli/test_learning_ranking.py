"""``assistant learn ranking|releases|rollback`` over a tenant's embedded stores."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assistant.cli.learn import app
from assistant.cli.terminal import GlobalOptions
from assistant.domain.errors import ConfigurationError, InvalidRequestError
from tests.fakes.synthetic_feedback import World, feedback
from tests.unit.tuning.test_gate import protected_set


def options(tmp_path: Path) -> GlobalOptions:
    return GlobalOptions(tenants_dir=Path("tenants"), state_dir=tmp_path / "state", port=None, json=True)


def learn(opts: GlobalOptions, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--tenant", "pharmacy"], obj=opts)


def ranking(opts: GlobalOptions, tmp_path: Path, *, until: str = "2026-10-12") -> Result:
    path = tmp_path / "questions.json"
    path.write_text(protected_set(by_title=True).model_dump_json())
    return learn(opts, "ranking", "--since", "2026-10-01", "--until", until, "--questions", str(path))


async def fill(opts: GlobalOptions) -> None:
    async with opts.stores("pharmacy") as stores:
        events = list(feedback(600, World(change={"title_cosine": 0.8})))
        for start in range(0, len(events), 300):
            await stores.feedback.append(events[start : start + 300], [])


def test_a_release_is_learned_listed_and_rolled_back(tmp_path: Path) -> None:
    opts = options(tmp_path)
    asyncio.run(fill(opts))
    learned = json.loads(ranking(opts, tmp_path).stdout)
    assert (learned["release"], learned["state"], learned["signals"]) == ("ranker-000001", "trial", 600)
    assert learned["report"]["gate"]["look"] == 1
    table = learn(replace(opts, json=False), "releases").stdout
    assert "ranker-000001" in table
    assert json.loads(learn(opts, "rollback").stdout) == {"rolled_back": "ranker-000001", "serves": "shipped"}
    assert [one["state"] for one in json.loads(learn(opts, "releases").stdout)] == ["rolled_back"]


def test_a_release_is_told_to_a_person(tmp_path: Path) -> None:
    opts = options(tmp_path)
    asyncio.run(fill(opts))
    told = ranking(replace(opts, json=False), tmp_path).stdout
    assert "ranker-000001: trial" in told
    assert "sealed half" in told
    assert "assistant learn promote" in told


def test_a_window_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    refused = ranking(options(tmp_path), tmp_path, until="2026-09-01").exception
    assert isinstance(refused, ConfigurationError)
    assert "2026-10-01 is not before 2026-09-01" in refused.message


def test_a_window_without_events_makes_no_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(options(tmp_path), "export", "--out", str(tmp_path))  # the pharmacy's profile asks for two people
    monkeypatch.setattr(os, "getuid", lambda: 502)
    refused = learn(options(tmp_path), "export", "--out", str(tmp_path)).exception
    assert isinstance(refused, InvalidRequestError)
    assert refused.message.startswith("0 events make no example")
