"""The issuer as a process: it says it is ready, signs in over HTTP, and stops when told."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from assistant.api.auth import CachedKeySet, TokenVerifier
from assistant.domain.clock import SystemClock
from assistant.local.tokens import Grant, issue_token
from assistant.settings.process import LocalIssuerSettings
from assistant.wiring.clients import HttpKeySource
from tests.fakes.processes import process, start

TENANT = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'


@pytest.fixture
def settings(tmp_path: Path) -> LocalIssuerSettings:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "clinic.toml").write_text(TENANT)
    return LocalIssuerSettings(
        port=0,
        tenants_dir=tmp_path / "tenants",
        state_dir=tmp_path / "state",
        redirect_origins=("http://127.0.0.1:8700",),
    )


async def test_a_token_of_the_command_line_verifies_against_the_issuer_s_keys(
    settings: LocalIssuerSettings,
) -> None:
    async with process("local.issuer", settings.environment()) as issuer:
        keys = CachedKeySet(HttpKeySource(f"{issuer.url}/jwks.json"), clock=SystemClock())
        verifier = TokenVerifier(
            keys, issuer=issuer.url, audience="assistant", tenants=("clinic",), clock=SystemClock()
        )
        token = issue_token(Grant("clinic", "ann"), state_dir=settings.state_dir, issuer=issuer.url)
        identity = await verifier.identify(f"Bearer {token}")
        assert (identity.tenant, identity.agent) == ("clinic", "ann")


async def test_discovery_names_the_port_that_was_chosen(settings: LocalIssuerSettings) -> None:
    async with (
        process("local.issuer", settings.environment()) as issuer,
        httpx.AsyncClient(base_url=issuer.url, trust_env=False) as client,
    ):
        found = (await client.get("/.well-known/openid-configuration")).json()
        assert found["issuer"] == issuer.url


async def test_it_stops_when_told(settings: LocalIssuerSettings) -> None:
    async with process("local.issuer", settings.environment()) as issuer:
        issuer.child.terminate()
        assert await issuer.ended() == (0, "")


async def test_a_port_in_use_is_one_clear_sentence(settings: LocalIssuerSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = await start("local.issuer", settings.model_copy(update={"port": port}).environment())
        said = (await child.communicate())[1].decode()
    assert child.returncode == 1
    assert said.strip().count("\n") == 0
    assert f"Port {port} on 127.0.0.1 is in use" in said


async def test_a_broken_tenant_file_is_logged_and_sign_in_offers_the_others(
    settings: LocalIssuerSettings,
) -> None:
    (settings.tenants_dir / "cafe.toml").write_text("name =")
    async with process("local.issuer", settings.environment()) as issuer:
        issuer.child.terminate()
        status, said = await issuer.ended()
    assert status == 0
    assert "cafe.toml: not valid TOML" in said
    assert "clinic" not in said
