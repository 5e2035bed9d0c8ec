"""The issuer on a port of its own: its keys verify the command line's tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from assistant.domain.clock import SystemClock
from assistant.laptop.issuer import issuer_application
from assistant.laptop.tokens import Grant, issue_token
from assistant.process.http import open_socket, serving
from assistant.service.identity import CachedKeySet, TokenVerifier
from assistant.stores.clients import HttpKeySource


@pytest.fixture
async def url(tmp_path: Path) -> AsyncGenerator[str]:
    listener = open_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    console = frozenset(("http://127.0.0.1:8700",))
    issuer = issuer_application(
        url, state_dir=tmp_path / "state", tenants={"clinic": "Clinic"}, redirect_origins=console
    )
    async with serving({listener: issuer}, shutdown_timeout_s=1):
        yield url


async def test_a_token_of_the_command_line_verifies_against_the_issuer_s_keys(
    url: str, tmp_path: Path
) -> None:
    keys = CachedKeySet(HttpKeySource(f"{url}/jwks.json"), clock=SystemClock())
    verifier = TokenVerifier(keys, issuer=url, audience="assistant", tenants=("clinic",), clock=SystemClock())
    token = issue_token(Grant("clinic", "ann"), state_dir=tmp_path / "state", issuer=url)
    identity = await verifier.identify(f"Bearer {token}")
    assert (identity.tenant, identity.agent) == ("clinic", "ann")
    await keys.close()


async def test_discovery_names_the_port_that_was_chosen(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        found = (await client.get("/.well-known/openid-configuration")).json()
        assert found["issuer"] == url
        assert found["code_challenge_methods_supported"] == ["S256"]
