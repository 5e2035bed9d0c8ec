"""Commands of live systems: a connector is tried, a system is switched."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.documents.shared_links import local_secret
from assistant.options.live.commands import ConnectorTrial, TrialCaller, try_connector
from assistant.options.live.section import LiveSection
from assistant.options.live.stored import Switches, SwitchUnreadableError
from assistant.stores.words import FileWords
from assistant.tenant.tenant import load_tenant
from assistant.terminal.terminal import GlobalOptions
from tests.options.live.live_scene import CUSTOMER, ORDER, answers_well, of_page, order, write_connector
from tests.stage.servers import Exchange, Script, scripted_http
from tests.stage.tenant_stores import SteppedClock

RUNNER = CliRunner()


@pytest.fixture
def connector(tmp_path: Path) -> Path:
    (tmp_path / "north.toml").write_text(
        f'schema_version = 1\nname = "north"\ndisplay_name = "North"\n{of_page()[0]}'
    )
    return write_connector(tmp_path / "connectors")


def ran(folder: Path, *arguments: str) -> tuple[int, str]:
    given = ["--tenants", str(folder), "--state", str(folder / "state"), *arguments]
    result = RUNNER.invoke(app, given)
    return result.exit_code, result.output


async def tried(
    script: Script, file: Path, capsys: pytest.CaptureFixture[str], **how: Any
) -> tuple[bool, dict[str, Any]]:
    async with scripted_http(script) as server:
        values = {"order_id": ORDER} | ({"order_id": how.pop("order")} if "order" in how else {})
        fits = await try_connector(ConnectorTrial(file, server.url, values, **how), as_json=True)
    return fits, json.loads(capsys.readouterr().out)


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


async def test_every_break_of_the_schema_is_named_at_once_without_a_value(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def last_year(exchange: Exchange) -> None:
        body = order(status="in limbo", refill={"copay": "free"}, items=[{"name": "x"}])
        await exchange.respond(200, orjson.dumps(body), Content_Type="application/json")

    fits, said = await tried(last_year, connector, capsys, customer="C-9")
    assert not fits
    assert said["outcome"] == "wrong"
    assert said["said"] == [
        "system_invalid: orders gave a response that cannot be used: "
        "Order.status breaks the OpenAPI file's enum; Order.refill.copay breaks the OpenAPI file's type; "
        "Order.items.count breaks the OpenAPI file's required."
    ]


def caller_of(connector: Path, entry: str) -> TrialCaller:
    """Return how the tenant calls the system, with these keys in its entry."""
    folder = connector.parents[1]
    tenant = folder / "north.toml"
    text = tenant.read_text().replace('auth = "token"', entry)
    assert "deadline_s = 2.0" in text
    tenant.write_text(text.replace("deadline_s = 2.0", "deadline_s = 10.0"))  # of a busy machine
    options = GlobalOptions(folder, folder / "state", None, json=True)
    return TrialCaller.of(options, "north", connector)


@pytest.mark.parametrize("auth", ["token", "oauth"])
async def test_a_tenant_s_entry_says_how_its_system_is_called(
    connector: Path, capsys: pytest.CaptureFixture[str], auth: str
) -> None:
    client = b'{"client_id": "care", "client_secret": "of-the-system"}'
    (connector.parents[1] / "secret").write_bytes(client if auth == "oauth" else b"the-token")

    async def asks_for_the_token(exchange: Exchange) -> None:
        if exchange.target == "/issue":
            assert b"client_secret=of-the-system" in exchange.body
            token = {"access_token": "the-token", "token_type": "Bearer", "expires_in": 600}
            await exchange.respond(200, orjson.dumps(token), Content_Type="application/json")
        elif exchange.headers.get("authorization") == "Bearer the-token":
            await answers_well(exchange)
        else:
            await exchange.respond(401, b"")

    fits, said = await tried(asks_for_the_token, connector, capsys)
    assert (fits, said["outcome"]) == (False, "wrong")
    entry = f'auth = "{auth}"\nsecret = "file:secret"\ntoken_path = "/issue"'
    caller = caller_of(connector, entry)
    fits, said = await tried(asks_for_the_token, connector, capsys, caller=caller)
    assert (fits, said["said"]) == (True, [])


async def test_ids_of_the_context_are_sample_values_and_are_compared(
    connector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scripted_http(answers_well) as server:
        trial = ConnectorTrial(connector, server.url, {}, customer=CUSTOMER, ids={"order": (ORDER,)})
        assert await try_connector(trial, as_json=True)
        both = replace(trial, ids={"order": (ORDER, "4471-2209")})
        assert not await try_connector(both, as_json=True)
        assert not await try_connector(replace(trial, customer="C-9"), as_json=True)
        assert [exchange.target for exchange in server.exchanges] == [f"/v1/orders/{ORDER}?view=care"] * 2
    outcomes = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
    assert outcomes == ["fits", "skipped", "wrong"]


@pytest.mark.parametrize("value", ["4471", "../admin", "4471-2208x", "\u0664\u0664\u0667\u0661-2208"])
async def test_a_sample_value_of_another_form_is_not_sent(
    connector: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    async with scripted_http(answers_well) as server:
        trial = ConnectorTrial(connector, server.url, {"order_id": value})
        assert not await try_connector(trial, as_json=True)
        assert server.exchanges == []
    said = json.loads(capsys.readouterr().out)["said"]
    assert said == [r"order_id: the value given is no order number; it needs pattern \d{4}-\d{4}"]


def with_examples(connector: Path, *, track: str) -> None:
    """Give the element ``track`` this example question; "Where is my order?" is one of ``status``."""
    text = connector.read_text()
    assert "Do you have a tracking link?" in text
    connector.write_text(text.replace("Do you have a tracking link?", track))


@pytest.mark.parametrize("same", ["Where is my order", "where is my ORDER?"])
@pytest.mark.parametrize("command", ["live", "tenant"])
def test_examples_of_two_elements_with_the_same_words_are_named(
    connector: Path, same: str, command: str
) -> None:
    with_examples(connector, track=same)
    address = ("--address", "http://127.0.0.1:1")  # nothing is called without --set
    test, check = ("live", "test", str(connector), *address), ("tenant", "check", "north")
    code, said = ran(connector.parents[1], *(test if command == "live" else check))
    system = "" if command == "live" else "orders."
    pair = f'"Where is my order?" of {system}status and "{same}" of {system}track ask the same'
    assert pair in " ".join(said.split())
    assert code == (1 if command == "live" else 0)


def test_a_new_key_of_document_links_leaves_the_pseudonyms_as_they_were(connector: Path) -> None:
    folder = connector.parents[1]
    state, tenant = folder / "state", load_tenant(folder / "north.toml")
    secret = partial(local_secret, tenant="north", key="", tenants_dir=folder, state_dir=state)
    before = secret(LiveSection.of(tenant).pseudonyms)
    secret(tenant.secrets.document_links)
    (state / "secrets" / "north" / "document-links").unlink()
    assert secret(LiveSection.of(tenant).pseudonyms) == before


REFRESH_S = 5.0


@dataclass
class Site:
    """A tenant's switches, as a process sees them whose clock a test steps."""

    folder: Path
    clock: SteppedClock = field(default_factory=SteppedClock)

    def __post_init__(self) -> None:
        self.switches = Switches(FileWords(self.folder), clock=self.clock)

    def say(self, word: str, *, system: str = "orders") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / system).write_text(word)
        self.clock.step(REFRESH_S)

    async def becomes(self, *, on: bool) -> bool:
        """Whether the switch is seen that way, asked anew every few seconds of its clock."""
        for _ in range(500):
            with suppress(SwitchUnreadableError):
                if await self.switches.is_on("orders") == on:
                    return True
            await asyncio.sleep(0.02)
            self.clock.step(REFRESH_S)
        return False

    def break_away(self) -> None:
        """Have a file where the folder was."""
        self.folder.rename(self.folder.with_name("aside"))
        self.folder.write_text("")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "systems")


async def test_a_system_is_on_where_nobody_said_anything(site: Site) -> None:
    assert await site.becomes(on=True)
    for _ in range(3):
        assert await site.switches.is_on("orders")
        site.clock.step(REFRESH_S)


async def test_a_process_that_starts_sees_a_system_that_is_off_at_once_and_no_other(site: Site) -> None:
    site.say("off")
    assert not await site.switches.is_on("orders")
    assert await site.switches.is_on("stores")


@pytest.mark.parametrize(
    ("word", "is_on"), [(" OFF ", False), ("Off\n", False), (" ON ", True), ("On\n", True), ("on", True)]
)
async def test_switching_is_seen_whatever_case_and_white_space(site: Site, word: str, is_on: bool) -> None:
    site.say("off" if is_on else "on")
    assert await site.becomes(on=not is_on)
    site.say(word)
    assert await site.becomes(on=is_on)


@pytest.mark.parametrize("word", ["stop", "paused", "on off", "false", "{}", "\u043en"])
async def test_any_other_word_is_off_and_logged_as_an_error(site: Site, word: str) -> None:
    assert await site.becomes(on=True)
    site.say(word)
    with capture_logs() as logs:
        assert await site.becomes(on=False)
    assert {("switch_not_understood", "error")} == {(log["event"], log["log_level"]) for log in logs}


async def test_a_switch_that_was_never_read_lets_nothing_be_called(site: Site) -> None:
    site.say("on")
    site.break_away()
    for _ in range(3):
        with pytest.raises(SwitchUnreadableError):
            await site.switches.is_on("orders")
        site.clock.step(REFRESH_S)


@pytest.mark.parametrize("word", ["on", "off"])
async def test_a_switch_that_cannot_be_read_any_more_keeps_its_last_state(site: Site, word: str) -> None:
    site.say(word)
    assert await site.becomes(on=word == "on")
    site.break_away()
    for _ in range(3):
        site.clock.step(REFRESH_S)
        assert await site.switches.is_on("orders") == (word == "on")
