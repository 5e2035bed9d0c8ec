"""A web page whose name was made to point at this machine (DNS rebinding): each local process refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from assistant.settings.process import GatewaySettings, LocalIssuerSettings
from tests.fakes.processes import process
from tests.fakes.running_service import Scene, published_keys, service_settings
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tokens import EC_KEY

PLACES = {"local.issuer": "/jwks.json", "local.gateway": "/ping", "api": "/healthz"}


def local_environment(room: str, folder: Path) -> Mapping[str, str]:
    if room == "local.gateway":
        return GatewaySettings(port=0, endpoints={}).environment()
    (folder / "tenants").mkdir()
    (folder / "tenants" / "clinic.toml").write_text(
        'schema_version = 1\nname = "clinic"\ndisplay_name = "C"\n'
    )
    return LocalIssuerSettings(
        port=0, tenants_dir=folder / "tenants", state_dir=folder / "state"
    ).environment()


async def refuses_other_names(url: str, place: str) -> None:
    port = httpx.URL(url).port
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}"):
            assert (await client.get(place, headers={"host": host})).status_code == 200, host
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "[evil", ""):
            response = await client.get(place, headers={"host": host})
            assert response.status_code == 421, host
            assert response.text.endswith("Ask 127.0.0.1 or localhost."), host


@pytest.mark.parametrize("room", ["local.issuer", "local.gateway"])
async def test_a_local_process_answers_no_other_name(room: str, tmp_path: Path) -> None:
    async with process(room, local_environment(room, tmp_path)) as running:
        await refuses_other_names(running.url, PLACES[room])


async def test_the_local_service_answers_no_other_name(tmp_path: Path) -> None:
    async with published_keys([EC_KEY]) as jwks_url, sagemaker_socket() as sagemaker:
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        settings = made.model_copy(update={"port": 0, "operations_port": None})
        async with process("api", settings.environment()) as running:
            await refuses_other_names(running.url, PLACES["api"])
