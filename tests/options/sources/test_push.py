"""A connector that pushes into a service elsewhere: what only happens over HTTP, and the command itself."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.client import UnreachableError
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConfigurationError
from assistant.process.settings import LocalSettings
from assistant.terminal.terminal import GlobalOptions
from tests.options.sources.conftest import SOURCES, Pages, Served, pushing, sync_of
from tests.stage.running_service import RunningService, Scene, eventually, running_service
from tests.stage.servers import Authority, tls_front
from tests.unit.documents.scene import Knowledge

ON_SQLITE = pytest.mark.parametrize("pages", ["sqlite"], indirect=True)
OVER_HTTP = pytest.mark.parametrize("knowledge", ["service"], indirect=True)


def served(knowledge: Knowledge) -> RunningService:
    assert isinstance(knowledge, Served)
    return knowledge.service


@ON_SQLITE
@OVER_HTTP
@pytest.mark.parametrize(
    ("who", "why"),
    [
        ({"roles": ["agent"]}, "The role knowledge_owner is required"),
        ({"labels": ["desk"]}, "gives the labels hr, and the token has none of these"),
        ({"tenant": "pharmacy"}, "may write wiki of the tenant pharmacy, and not wiki of clinic"),
    ],
)
async def test_a_token_that_cannot_keep_the_source_sends_nothing(
    pages: Pages, knowledge: Knowledge, who: dict[str, Any], why: str
) -> None:
    pages.put(1, "A text.")
    settings = pages.settings()
    sync = sync_of(knowledge, settings)
    run = await replace(sync, open_target=partial(pushing, served(knowledge), settings, **who))()
    assert why in run.errors[0]
    assert (run.cursor, run.succeeded_at) == (None, None)
    assert await knowledge.stores.states.list() == []


@ON_SQLITE
@OVER_HTTP
async def test_a_document_with_a_label_of_others_is_refused_alone(pages: Pages, knowledge: Knowledge) -> None:
    await served(knowledge).know("wiki:1", "For the board.", labels=("board",))
    pages.put(1, "For all.")
    pages.put(2, "A text.")
    sync = sync_of(knowledge, pages.settings())
    for changed in (1, 0):  # the next run says it again
        run = await sync()
        assert (run.changed, run.refused, run.deleted) == (changed, 1, 0)
        assert run.errors[0].startswith("1: There is no such thing, or it is not yours")
    assert (await knowledge.status("wiki:1")).labels == ("board",)


@ON_SQLITE
@OVER_HTTP
async def test_a_text_over_the_limit_of_bodies_withholds_its_document(
    pages: Pages, knowledge: Knowledge
) -> None:
    pages.put(1, "A text.")
    sync = sync_of(knowledge, pages.settings())
    await sync()
    pages.put(1, "\x01" * 3_000_000, at="2026-11-02 08:00:00")  # six bytes each in JSON
    run = await sync()
    assert (run.refused, run.succeeded_at is not None) == (1, True)
    assert (await knowledge.status("wiki:1")).state is DocumentState.WITHHELD


@dataclass(frozen=True)
class Company:
    """A machine of the company: a tenant file with the source alone, and a state folder of its own."""

    folder: Path
    service: RunningService

    def write(self, pages: Pages, **fields: object) -> None:
        said = pages.settings(**fields).model_dump(mode="json", exclude_unset=True) | {"groups": None}
        lines = [f"{name} = {orjson.dumps(value).decode()}" for name, value in said.items() if value]
        head = f'schema_version = 1\nname = "clinic"\ndisplay_name = "C"\nlabels = ["hr"]\n{SOURCES}'
        groups = 'groups = { personnel = ["hr"], everyone = [] }'
        text = "\n".join([head, "[sources.connector]", *lines, groups])
        (self.folder / "clinic.toml").write_text(text)

    def hold(self, *roles: str) -> Path:
        """Put a token with these roles into the file."""
        headers = self.service.headers("pusher", roles=roles, labels=["hr"])
        file = self.folder / "token"
        file.write_text(headers["authorization"].removeprefix("Bearer ") + "\n")
        return file

    async def push(self) -> Process:
        command = ("knowledge", "sync", "wiki", "--tenant", "clinic", "--json")
        folders = ("--tenants", str(self.folder), "--state", str(self.folder / "state"))
        into = ("--into", f"{self.service.url}/", "--token-file", str(self.folder / "token"))
        program = (sys.executable, "-m", "assistant.cli.main")
        return await asyncio.create_subprocess_exec(*program, *command, *folders, *into, stdout=PIPE)


async def told(process: Process) -> dict[str, Any]:
    return orjson.loads((await process.communicate())[0])


@pytest.fixture
async def company(tmp_path: Path) -> AsyncIterator[Company]:
    scene = Scene(tenants=("clinic",), more_of_tenants=SOURCES)
    async with running_service(tmp_path / "deployed", scene) as service:
        yield Company(tmp_path, service)


@ON_SQLITE
@pytest.mark.parametrize("by", ["kill", "token"])
async def test_the_command_goes_on_where_it_was_stopped(pages: Pages, company: Company, by: str) -> None:
    for number in range(1, 11):
        pages.put(number, f"Body {number}.", readers="personnel" if number == 3 else "")
    states = company.service.tenants["clinic"].knowledge.states

    async def some_came() -> bool:
        return len(await states.list()) > 2

    company.write(pages, requests_per_second=1.0)  # a page of two rows each second
    company.hold("knowledge_owner")
    first = await company.push()
    await eventually(some_came)
    if by == "kill":
        first.kill()
        await first.communicate()
    else:
        company.hold("agent")
        assert "knowledge_owner" in (await told(first))["errors"][0]
    assert len(await states.list()) < 10
    company.write(pages)
    company.hold("knowledge_owner")
    second = await told(await company.push())
    assert (second["errors"], second["unchanged"] <= 2) == ([], True)  # one page again
    labels = {status.document_id: status.labels for status in await states.list()}
    assert labels == {f"wiki:{number}": ("hr",) if number == 3 else () for number in range(1, 11)}


async def test_a_service_is_trusted_by_the_company_s_own_authority(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, token = Authority.make(), company.hold("knowledge_owner")
    options = GlobalOptions(company.folder, company.folder, port=None, json=True)
    file = company.folder / "authority.pem"
    file.write_text(authority.pem)
    async with tls_front(company.service.url, company.folder, authority=authority) as url:
        async with options.service_client(url, of="", token_file=token) as client:
            with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.list_sources()
        monkeypatch.setenv(LocalSettings.variable("service_ca_file"), str(file))
        async with options.service_client(url, of="", token_file=token) as client:
            assert (await client.list_sources()).labels == ("hr",)
    file.write_text("")
    with pytest.raises(ConfigurationError, match="SERVICE_CA_FILE names no certificates"):
        options.service_client(url, of="", token_file=token)


@OVER_HTTP
async def test_a_service_with_another_namespace_gets_nothing(knowledge: Knowledge) -> None:
    await served(knowledge).know("wiki:1", "A text.")
    with pytest.raises(ConfigurationError, match="Write the namespace"):
        async with pushing(served(knowledge), None, namespace="other"):
            pass


@ON_SQLITE
@OVER_HTTP
async def test_each_service_has_a_cursor_of_its_own(pages: Pages, knowledge: Knowledge) -> None:
    pages.put(1, "A text.")
    sync, url = sync_of(knowledge, pages.settings()), "http://127.0.0.1:9"
    assert (await sync()).cursor
    down = replace(served(knowledge), url=url)
    run = await replace(sync, open_target=partial(pushing, down, None), into=url)()
    assert "does not answer" in run.errors[0]
    assert run.cursor is None
    assert [each.into for each in await sync.runs.runs()] == sorted([url, served(knowledge).url])
