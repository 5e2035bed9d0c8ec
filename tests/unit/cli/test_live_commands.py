"""Commands of live systems: a connector is tried, a system is switched, reads are listed."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from assistant.cli.live import ConnectorTrial, try_connector
from assistant.cli.main import app
from assistant.domain.live import LiveRead
from assistant.embedded.live import SqliteLiveReads
from assistant.settings.connector import load_connector
from tests.attacks.live_scene import CUSTOMER, ORDER, PAGE, answers_well, order
from tests.fakes.scripted_http import Exchange, Script, scripted_http

RUNNER = CliRunner()


@pytest.fixture
def connector(tmp_path: Path) -> Path:
    tenant, text = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[:2]
    (tmp_path / "connectors").mkdir()
    (tmp_path / "connectors" / "orders.toml").write_text(text)
    (tmp_path / "north.toml").write_text(
        f'schema_version = 1\nname = "north"\ndisplay_name = "North"\n{tenant}'
    )
    return tmp_path / "connectors" / "orders.toml"


def ran(folder: Path, *arguments: str) -> tuple[int, str]:
    given = ["--tenants", str(folder), "--state", str(folder / "state"), *arguments]
    result = RUNNER.invoke(app, given)
    return result.exit_code, result.output


async def tried(
    script: Script, file: Path, capsys: pytest.CaptureFixture[str], **how: str
) -> tuple[bool, dict[str, Any]]:
    async with scripted_http(script) as server:
        values = {"order_id": ORDER} | ({"order_id": how.pop("order")} if "order" in how else {})
        fits = await try_connector(ConnectorTrial(file, server.url, values, **how), as_json=True)  # type: ignore[arg-type]
    return fits, json.loads(capsys.readouterr().out)


@pytest.mark.loopback
async def test_a_connector_that_fits_says_what_each_element_shows(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits, said = await tried(answers_well, connector, capsys, customer=CUSTOMER)
    assert fits
    assert (said["outcome"], said["said"]) == ("fits", [])
    assert said["elapsed_ms"] > 0
    assert said["elements"] == {
        "status": "Status: Shipped",
        "refill": "Status: Shipped; Next fill: Nov 24, 2026; Copay: $12.50",
        "items": "2 rows",
        "track": "Status: Shipped; https://track.example.com/parcels/1Z999",
    }


@pytest.mark.loopback
async def test_every_mismatch_is_named_at_once_without_a_value(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def last_year(exchange: Exchange) -> None:
        body = order(status="in limbo", refill={"copay": "free"}, tracking={"url": "https://evil.example/"})
        await exchange.respond(200, orjson.dumps(body), Content_Type="application/json")

    fits, said = await tried(last_year, connector, capsys, customer="C-9")
    assert not fits
    assert said["outcome"] == "wrong"
    assert said["said"] == [
        "customer: These are not data of this conversation's customer.",
        "status has a value that the connector does not know",
        "copay is no money",
        "tracking leads to an address that links does not allow",
    ]


@pytest.mark.loopback
async def test_a_system_that_is_down_fails_the_trial(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def down(exchange: Exchange) -> None:
        await exchange.respond(500, b"")

    fits, said = await tried(down, connector, capsys)
    assert not fits
    assert said["said"][0].startswith("system_unavailable: ")


@pytest.mark.loopback
async def test_an_operation_without_its_values_is_skipped_and_nothing_called_is_no_success(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_http(answers_well) as server:
        fits = await try_connector(ConnectorTrial(connector, server.url, {}), as_json=True)
        assert server.exchanges == []
    assert not fits
    assert json.loads(capsys.readouterr().out)["said"] == ["needs --set order_id=…"]


def test_a_connector_begins_from_an_openapi_file(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "tenants" / "connectors" / "orders.openapi.json"
    status, text = ran(tmp_path, "connector", "from-openapi", str(file), "--operation", "getOrder")
    assert status == 0
    path = tmp_path / "orders.toml"
    element = '[[elements]]\nname = "x"\nkind = "card"\ntitle = "X"\n'
    element += 'operation = "get_order"\nfields = ["placed_on"]'
    proven = text.replace(
        'name = "order_id"\npath = "order_id"', 'name = "order_id"\nsame_as = "order_id"', 1
    )
    path.write_text(f"{proven}\n{element}\n")
    operation = load_connector(path).operation("get_order")
    assert operation.path == "/v1/orders/{order_id}"
    assert len(operation.results) > 5


def test_a_system_is_switched_off_and_on(connector: Path) -> None:
    folder = connector.parents[1]

    def switch() -> str:
        status, listed = ran(folder, "--json", "systems", "list", "--tenant", "north")
        assert status == 0
        return json.loads(listed)["switch"]

    assert switch() == "on"
    assert ran(folder, "systems", "off", "orders", "--tenant", "north")[0] == 0
    assert switch() == "off"
    assert ran(folder, "systems", "on", "orders", "--tenant", "north")[0] == 0
    assert switch() == "on"


def test_an_unknown_system_is_refused_with_those_there_are(connector: Path) -> None:
    result = RUNNER.invoke(
        app, ["--tenants", str(connector.parents[1]), "systems", "off", "stores", "--tenant", "north"]
    )
    assert result.exit_code == 1
    assert "its systems with a connector: orders" in str(result.exception)


def test_reads_are_listed_by_agent(connector: Path) -> None:
    folder = connector.parents[1]
    path = folder / "state" / "tenants" / "north" / "records.sqlite"

    async def record() -> None:
        reads = SqliteLiveReads(path)
        for number, agent in enumerate(("ann", "bob")):
            await reads.record(
                LiveRead(
                    read_id=f"r{number}",
                    at=datetime.now(UTC),
                    agent=agent,
                    system="orders",
                    operation="orders.get_order",
                    outcome="ready",
                )
            )
        await reads.close()

    path.parent.mkdir(parents=True)
    asyncio.run(record())
    status, text = ran(folder, "--json", "systems", "reads", "--tenant", "north", "--agent", "bob")
    assert status == 0
    assert [json.loads(line)["agent"] for line in text.splitlines() if line.startswith("{")] == ["bob"]
