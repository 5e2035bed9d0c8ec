"""``make check-upgrade``: the release before makes a state, this release takes it over, and gives it back.

``build/release-before`` has that release with an environment of its own. ``RECORDS`` answers with feedback
are written by its code; the commands of both releases ask, as a client would.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from assistant.cli.local import local_runtime
from assistant.cli.terminal import GlobalOptions, Terminal
from assistant.local.layout import Addresses
from assistant.local.tokens import Grant, issue_token
from assistant.settings.process import ServiceSettings, inherited_environment
from tests.fakes.socket_server import socket_server
from tests.fakes.tenant_files import checkout_tenants
from tests.upgrade.switching import Agents, Balancer, ServiceProcess

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "build" / "release-before"
RECORDS = int(os.environ.get("RECORDS", "10000"))
SEED = int(os.environ.get("SEED", "1"))
KILLS = 20
AGENTS, AT_ONCE = 30, 4
ANSWERS_OF_EACH = 8
"""At least, before the service before is ended, and after it."""
SCRIPT = Path(__file__).with_name("release_state.py")
TENANT = "pharmacy"
QUESTIONS = (
    "What do I do with reject 79, refill too soon?",
    "How do I reship a package that was lost?",
    "What do I tell a patient whose prior authorization was denied?",
)


@dataclass(frozen=True)
class Release:
    """One release's code and environment, on one state."""

    source: Path
    python: Path
    state: Path
    stop: tuple[str, str]
    tenants: Path = Path("tenants")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.source)}
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=self.source, env=environment, check=check, capture_output=True, text=True
        )

    def assistant(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        places = ("--tenants", str(self.tenants), "--state", str(self.state))
        entry = ("-c", "from assistant.cli.main import run; run()", *places, "--port", "0", "--json")
        return self.run(*entry, *arguments, check=check)

    def ask(self, question: str) -> Any:
        done = self.assistant("ask", "--tenant", TENANT, question, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(str(SCRIPT), *arguments).stdout)

    def read_again(self) -> Any:
        return json.loads(self.assistant("knowledge", "read-again", "--tenant", TENANT).stdout)

    def end(self) -> None:
        self.assistant(*self.stop, check=False)

    @property
    def folder(self) -> str:
        return str(self.state / "tenants" / TENANT)


def sources(answer: Any) -> list[str]:
    return [source["document_id"] for source in answer["sources"]]


def upgrade_with_kills(new: Release) -> int:
    """Kill the command at random moments, then let it end; return how many kills hit it."""
    moments, hit = random.Random(SEED), 0  # noqa: S311 (moments of kills)
    entry = "from assistant.cli.main import run; run()"
    command = [
        str(new.python),
        "-c",
        entry,
        "--tenants",
        str(new.tenants),
        "--state",
        str(new.state),
        "tenant",
        "upgrade",
        "--tenant",
        TENANT,
    ]
    started = time.monotonic()
    new.assistant("tenant", "upgrade", "--tenant", TENANT, "--plan")
    whole_s = time.monotonic() - started
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, cwd=new.source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit += 1
    new.assistant("tenant", "upgrade", "--tenant", TENANT)
    return hit


def service_environments(old: Release, new: Release) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment of a service of each release, on any port, beside the processes of ``old``."""
    running = {row["name"]: row for row in json.loads(old.assistant("local", "status").stdout)["processes"]}
    of_old = psutil.Process(running["service"]["pid"]).environ()
    systems = {name: row["address"] for name, row in running.items() if name in ("orders", "stores")}
    addresses = Addresses(running["service"]["address"], running["issuer"]["address"], systems)
    options = GlobalOptions(tenants_dir=new.tenants, state_dir=new.state, port=None, json=True)
    settings = local_runtime(options, Terminal()).layout.service_settings(addresses)
    any_port = {ServiceSettings.variable("port"): "0"}
    return of_old | any_port, inherited_environment() | settings.environment() | any_port


def agents_tokens(environment: Mapping[str, str], *, state: Path) -> list[str]:
    issuer = environment[ServiceSettings.variable("issuer")]
    grants = [Grant(TENANT, f"ana-{each}") for each in range(AGENTS)]
    return [issue_token(grant, state_dir=state.resolve(), issuer=issuer) for grant in grants]


async def switch_to_and_fro(old: Release, new: Release) -> tuple[int, Agents, list[int]]:
    """Upgrade under kills, switch to the new service, go the way back, and switch to the new one again, while
    agents ask. Return how many kills hit the upgrade, the agents, and the connections of each service."""
    of_old, of_new = service_environments(old, new)
    upgrade = ("tenant", "upgrade", "--tenant", TENANT)
    services = list[ServiceProcess]()
    async with AsyncExitStack() as stack:

        async def begin(release: Release, environment: Mapping[str, str]) -> int:
            service = await ServiceProcess.begin(release.python, release.source, environment)
            stack.push_async_callback(service.end)
            services.append(service)
            return service.port

        balancer = Balancer(await begin(old, of_old))
        url = await stack.enter_async_context(socket_server(balancer.run))
        agents = Agents(url, agents_tokens(of_old, state=old.state), QUESTIONS)

        async def switch(release: Release, environment: Mapping[str, str]) -> None:
            balancer.to_port = await begin(release, environment)
            await agents.more(ANSWERS_OF_EACH)
            await services[-2].end()
            await agents.more(ANSWERS_OF_EACH)

        async with agents.at_work(at_once=AT_ONCE):
            hit = await asyncio.to_thread(upgrade_with_kills, new)
            await switch(new, of_new)
            await asyncio.to_thread(new.assistant, *upgrade, "--back")
            await switch(old, of_old)
            await asyncio.to_thread(new.assistant, *upgrade)
            await switch(new, of_new)
    return hit, agents, [balancer.passed[service.port] for service in services]


@pytest.mark.timeout(3000)
def test_a_state_of_the_release_before_is_taken_over_and_given_back(tmp_path: Path) -> None:
    state = tmp_path / "state"
    old = Release(BEFORE / "source", BEFORE / "venv" / "bin" / "python", state, ("local", "down"))
    tenants = checkout_tenants(tmp_path)
    new = Release(ROOT, Path(sys.executable), state, ("tenant", "down"), tenants)
    fresh = Release(ROOT, Path(sys.executable), tmp_path / "fresh", ("tenant", "down"), tenants)
    try:
        first = old.ask(QUESTIONS[0])
        assert first is not None
        old.run(str(SCRIPT), "fill", old.folder, str(RECORDS), first["answer_id"])
        made = old.read("read", old.folder)
        assert (made["answers"], made["verdicts"], made["cases"]) == (RECORDS, RECORDS, RECORDS // 10)

        refused = new.assistant("ask", "--tenant", TENANT, QUESTIONS[0], check=False)
        assert "assistant tenant upgrade --tenant" in refused.stderr

        old.assistant("local", "up")
        hit, agents, by = asyncio.run(switch_to_and_fro(old, new))
        assert not agents.failed
        assert len(agents.answered) == agents.asked
        assert all(count >= ANSWERS_OF_EACH for count in by)
        old.end()

        assert new.read("read", new.folder) == made
        answers = [new.ask(question) for question in QUESTIONS]
        assert all(answers)
        for question, answer in zip(QUESTIONS, answers, strict=True):
            # The index holds passages as the release before cut them: the last places may differ.
            other = sources(fresh.ask(question))
            assert sources(answer)[0] == other[0]
            assert len({*sources(answer)} & {*other}) >= len({*other}) - 1
        again = new.read_again()
        assert (again["current"], again["refused"], again["without_original"], again["failed"]) == (
            0,
            {},
            [],
            {},
        )
        assert again["unchanged"] + len(again["changed"]) == made["documents"]
        assert new.read_again()["current"] == made["documents"]
        assert sources(new.ask(QUESTIONS[0]))[0] == sources(first)[0]
        new.end()
        texts = {a["answer_id"]: new.read("answer", new.folder, a["answer_id"])["text"] for a in answers}

        new.assistant("tenant", "upgrade", "--tenant", TENANT, "--back")
        assert old.read("read", old.folder) == made
        for answer_id, text in texts.items():
            assert old.read("answer", old.folder, answer_id)["text"] == text
        assert sources(old.ask(QUESTIONS[0]))[0] == sources(first)[0]  # what the new readers made of them
        old.end()

        new.assistant("tenant", "upgrade", "--tenant", TENANT)
        assert all(new.read("answer", new.folder, a["answer_id"])["newer"] for a in answers)
        asked = f"asked {agents.asked} times meanwhile, {agents.retried} retried, connections by service {by}"
        sys.stdout.write(f"\n{made}; {hit} kills; {asked}\n")
    finally:
        for release in (old, new, fresh):
            release.end()
