"""With every store on AWS the service and the worker load no embedded engine, and no gRPC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from assistant.process.settings import ServiceSettings, StoreSettings, WorkerSettings
from tests.stage.processes import start
from tests.stage.running_service import Scene, service_settings

NOWHERE = "http://127.0.0.1:9"
"""Nothing is asked of any store before the first request."""
ON_AWS = {
    "stores": "aws",
    "search": "opensearch",
    "opensearch_url": NOWHERE,
    "opensearch_auth": "none",
    "aws_endpoint_url": NOWHERE,
    "documents_bucket": "{tenant}-documents",
    "states_table": "{tenant}-states",
    "desk_table": "{tenant}-desk",
    "records_table": "{tenant}-records",
    "events_table": "{tenant}-events",
    "ingestion_queue_url": f"{NOWHERE}/{{tenant}}-documents",
    "withdrawals_queue_url": f"{NOWHERE}/{{tenant}}-withdrawals",
}
UNWANTED = ("tantivy", "numpy", "onnx", "onnxruntime", "openvino", "xllamacpp", "sqlite3", "grpc", "google")


async def loaded(room: str, environment: Mapping[str, str]) -> frozenset[str]:
    """Start a process, end it when it is ready, or has ended by itself, and return what it imported."""
    child = await start(room, dict(environment) | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert child.stdout is not None
    assert child.stderr is not None
    listening = asyncio.create_task(child.stderr.read())
    try:
        await asyncio.wait_for(child.stdout.readline(), 60)
    finally:
        if child.returncode is None:
            child.terminate()
        said, _ = await asyncio.wait_for(asyncio.gather(listening, child.wait()), 60)
    return frozenset(re.findall(r"^import time:.*\| +([\w.]+)$", said.decode(), re.MULTILINE))


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    embedded = service_settings(tmp_path, Scene(), sagemaker_url=NOWHERE, jwks_url=NOWHERE)
    return ServiceSettings.model_validate(embedded.model_dump() | ON_AWS | {"port": 0})


def unwanted(modules: frozenset[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & set(UNWANTED)


async def test_the_service_on_aws_loads_no_engine(settings: ServiceSettings) -> None:
    modules = await loaded("service", settings.environment())
    # What importlib.import_module loads is not told, but what that imports is.
    assert {"opensearchpy", "aiobotocore.client", "assistant.stores.dynamodb_table"} <= modules
    assert unwanted(modules) == set()


async def test_the_worker_on_aws_loads_no_engine(settings: ServiceSettings) -> None:
    shared = {name: getattr(settings, name) for name in StoreSettings.model_fields}
    modules = await loaded("laptop.worker", WorkerSettings(**shared).environment())
    assert {"opensearchpy", "aiobotocore.client", "assistant.stores.dynamodb_table"} <= modules
    assert unwanted(modules) == set()
