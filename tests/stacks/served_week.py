"""``python -m tests.stacks.served_week``: what the service and the probe write of a tenant without documents,
of one with a document, and of a paused one. One line of JSON.

The service is a process with its own stores; models are scripted, KMS is moto's.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
from joserfc.jwk import ECKey
from moto.server import ThreadedMotoServer

from assistant.probe.published_key import published_key
from assistant.process.aws import open_client
from assistant.process.settings import ProbeSettings
from lambdas.ask_probe import run
from tests.fakes.aws_server import REGION
from tests.fakes.processes import RunningProcess, start
from tests.fakes.running_service import (
    NO_TENANTS,
    RunningService,
    Scene,
    eventually,
    published_keys,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tls_front import Authority, tls_front
from tests.fakes.tokens import EC_KEY, ISSUER

TENANT = "clinic"
QUESTION = "How long is the wait?"


async def asked(stack: AsyncExitStack, folder: Path, aws_url: str) -> dict[str, Any]:
    kms = await stack.enter_async_context(open_client("kms", region=REGION, endpoint_url=aws_url))
    key = (await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"))["KeyMetadata"]["Arn"]
    public = published_key((await kms.get_public_key(KeyId=key))["PublicKey"])
    keys = [EC_KEY, ECKey.import_key(orjson.loads(orjson.dumps(public)))]
    sagemaker = await stack.enter_async_context(sagemaker_socket())
    jwks_url = await stack.enter_async_context(published_keys(keys))
    settings = service_settings(
        folder, Scene(tenants=(TENANT,)), sagemaker_url=sagemaker.url, jwks_url=jwks_url
    )
    given = {"metrics_service": TENANT, "metrics_interval_s": 1, "port": 0, "operations_port": 0}
    child = await start("service", settings.model_copy(update=given).environment())
    assert child.stdout is not None
    stack.push_async_callback(_end, child)
    line = await child.stdout.readline()
    assert line, (await child.communicate())[1].decode()
    url, authority = RunningProcess(child, orjson.loads(line)).url, Authority.make()
    client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60, trust_env=False))
    service = RunningService(url, sagemaker, NO_TENANTS, settings.state_dir, client)
    front = await stack.enter_async_context(tls_front(url, folder, authority=authority))
    probe = ProbeSettings(
        service_url=front,
        tenant=TENANT,
        question=QUESTION,
        issuer=ISSUER,
        signing_key_id=key,
        region=REGION,
        aws_endpoint_url=aws_url,
        certificate_authority=authority.pem,
    )
    told: dict[str, Any] = {"tenant": TENANT, "statuses": {}, "probes": {}}
    for moment in ("empty", "known", "paused"):
        if moment == "known":
            await service.know("wait", "The wait is two days.")
        if moment == "paused":
            (settings.state_dir / "tenants" / TENANT / "power").write_text("paused")
            await eventually(partial(_is_paused, service))
        told["statuses"][moment] = (await service.ask(QUESTION)).status_code
        written = io.StringIO()
        with redirect_stdout(written):
            await run(probe)
        told["probes"][moment] = [json.loads(one) for one in written.getvalue().splitlines()]
    child.terminate()
    metrics, log = await child.communicate()
    told["metrics"] = [json.loads(one) for one in metrics.splitlines() if b"_aws" in one]
    told["lines"] = [json.loads(one) for one in log.splitlines() if one.startswith(b"{")]
    return told


async def _is_paused(service: RunningService) -> bool:
    """A task reads the state of power now and then."""
    return (await service.ask(QUESTION)).status_code == 503


async def _end(child: Any) -> None:
    if child.returncode is None:
        child.kill()
        await child.communicate()


async def main() -> None:
    os.environ.update(AWS_ACCESS_KEY_ID="emulated", AWS_SECRET_ACCESS_KEY="emulated")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            told = await asked(stack, Path(folder), url)
    server.stop()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
