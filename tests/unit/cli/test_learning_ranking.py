"""``assistant learn ranking|releases|rollback`` over a tenant's embedded stores."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from assistant.cli.ranking import RankingOptions, learn_ranking, list_releases, roll_back
from assistant.cli.terminal import GlobalOptions
from assistant.domain.errors import ConfigurationError
from assistant.wiring.feedback import open_learning
from tests.fakes.synthetic_feedback import World, feedback
from tests.unit.tuning.test_gate import protected_set


def options(tmp_path: Path) -> GlobalOptions:
    return GlobalOptions(tenants_dir=Path("tenants"), state_dir=tmp_path / "state", port=None, json=True)


def chosen(tmp_path: Path, **changes: object) -> RankingOptions:
    path = tmp_path / "questions.json"
    path.write_text(protected_set(by_title=True).model_dump_json())
    window = {"since": datetime(2026, 10, 1), "until": datetime(2026, 10, 12)}  # noqa: DTZ001 - as typer reads it
    return RankingOptions(tenant="pharmacy", protected=path, **{**window, **changes})  # type: ignore[arg-type]


async def fill(opts: GlobalOptions) -> None:
    async with open_learning(opts.tenant("pharmacy"), state_dir=opts.state_dir) as stores:
        events = list(feedback(600, World(change={"title_cosine": 0.8})))
        for start in range(0, len(events), 300):
            await stores.feedback.append(events[start : start + 300], [])


def test_a_release_is_learned_listed_and_rolled_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opts = options(tmp_path)
    asyncio.run(fill(opts))
    learn_ranking(opts, chosen(tmp_path))
    learned = json.loads(capsys.readouterr().out)
    assert (learned["release"], learned["state"], learned["signals"]) == ("ranker-000001", "trial", 600)
    assert learned["report"]["gate"]["look"] == 1
    roll_back(opts, tenant="pharmacy")
    assert json.loads(capsys.readouterr().out) == {"rolled_back": "ranker-000001", "serves": "shipped"}
    list_releases(opts, tenant="pharmacy")
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == ["rolled_back"]


def test_a_window_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not before --until"):
        learn_ranking(options(tmp_path), chosen(tmp_path, until=datetime(2026, 9, 1)))  # noqa: DTZ001
