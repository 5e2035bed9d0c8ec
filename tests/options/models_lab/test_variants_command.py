"""``assistant models release --counts`` on the stores of this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.tenant.tenant import load_tenant
from tests.contracts.samples import answer
from tests.fakes.tenant_stores import open_tenant_stores


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants/bakery.toml").write_text(
        'schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n'
    )
    return tmp_path


def keep(place: Path, marks: Iterable[tuple[str, VerdictLabel]]) -> None:
    """Store an answer an hour ago for each (variant, mark)."""

    async def put() -> None:
        tenant = load_tenant(place / "tenants/bakery.toml")
        async with open_tenant_stores(tenant, state_dir=place / "state") as stores:
            for number, (variant, label) in enumerate(marks):
                at = datetime.now(UTC) - timedelta(hours=1)
                record = answer(f"a{number}", conversation_id=f"c{number}").model_copy(
                    update={"variant": variant, "asked_at": at, "finished_at": at, "model_digest": "c" * 64}
                )
                await stores.records.put_answer(record)
                verdict = Verdict(verdict_id=f"v{number}", label=label)
                await stores.records.append_verdict(record.answer_id, verdict, agent="ana")

    asyncio.run(put())


def run(place: Path, *before: str) -> Result:
    options = ["--tenants", str(place / "tenants"), "--state", str(place / "state"), *before]
    return CliRunner().invoke(app, [*options, "models", "release", "--counts", "--tenant", "bakery"])


GOOD, BAD = VerdictLabel.GOOD, VerdictLabel.BAD


def test_without_written_answers_it_says_so(place: Path) -> None:
    done = run(place)
    assert (done.exit_code, "No model wrote in the last 168 hours." in done.output) == (0, True)


def test_a_worse_canary_is_named_with_the_command_and_status_1(place: Path) -> None:
    keep(place, [("AllTraffic", GOOD)] * 20 + [("Canary", BAD)] * 4)
    done = run(place)
    assert done.exit_code == 1
    assert "4/4 [0.51, 1.00]" in done.output
    assert "worse than the served model: bad. assistant models release --back --tenant bakery" in done.output


def test_a_canary_alike_has_status_0_and_programs_get_the_shares(place: Path) -> None:
    keep(place, [("AllTraffic", GOOD), ("AllTraffic", BAD), ("Canary", GOOD)])
    done = run(place, "--json")
    told = json.loads(done.output)
    assert done.exit_code == 0
    assert told["worse"] == []
    assert told["shares"]["AllTraffic"]["bad"]["value"] == 0.5
