"""A web page whose name was made to point at this machine (DNS rebinding): each local listener refuses it."""

from __future__ import annotations

from pathlib import Path

import httpx

from assistant.laptop.issuer import issuer_application
from assistant.process.http import open_socket, serving
from tests.stage.processes import process
from tests.stage.running_service import Scene, published_keys, service_settings
from tests.stage.sagemaker_runtime import sagemaker_socket
from tests.stage.tokens import EC_KEY


async def refuses_other_names(url: str, place: str) -> None:
    port = httpx.URL(url).port
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}"):
            assert (await client.get(place, headers={"host": host})).status_code == 200, host
        for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "[evil", ""):
            response = await client.get(place, headers={"host": host})
            assert response.status_code == 421, host
            assert response.text.endswith("Ask 127.0.0.1 or localhost."), host


async def test_the_issuer_answers_no_other_name(tmp_path: Path) -> None:
    listener = open_socket("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    issuer = issuer_application(
        url, state_dir=tmp_path, tenants={"clinic": "C"}, redirect_origins=frozenset()
    )
    async with serving({listener: issuer}, shutdown_timeout_s=1):
        await refuses_other_names(url, "/jwks.json")


async def test_the_local_service_answers_no_other_name(tmp_path: Path) -> None:
    async with published_keys([EC_KEY]) as jwks_url, sagemaker_socket() as sagemaker:
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        settings = made.model_copy(update={"port": 0, "operations_port": None})
        async with process("service", settings.environment()) as running:
            await refuses_other_names(running.url, "/healthz")
