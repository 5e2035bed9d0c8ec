"""Starting, being asked whether it is well, and stopping."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from assistant.model_server.artifact import ensure_artifact
from tests.processes.model_server.conftest import Server, Start
from tests.unit.model_server.tiny_bert import TinyBert


@pytest.mark.parametrize("task", ["embedding", "generation"])
async def test_it_is_well_once_ready_and_stops_within_its_bound(
    client: httpx.AsyncClient, start: Start, task: str
) -> None:
    with start(task) as server:
        assert (await client.get(f"{server.url}/ping")).status_code == 200

        assert server.stop() == 0

    assert server.log.read_text() == ""


async def test_it_stops_while_it_generates(client: httpx.AsyncClient, start: Start) -> None:
    body = {
        "messages": [{"role": "user", "content": "Tell a long story."}],
        "max_tokens": 1500,
        "stream": True,
    }
    with start("generation", slots=1) as server:
        async with client.stream("POST", f"{server.url}/invocations", json=body) as response:
            found = response.aiter_bytes()
            await anext(found)

            server.stop()  # raises when it takes longer than it may

            with pytest.raises(httpx.RemoteProtocolError):  # cut off: it did not wait for the end
                async for _ in found:
                    pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "embedding", "path": Path("nowhere")}, "nowhere"),
        ({"task": "generation", "path": Path(__file__)}, "not a GGUF file"),
    ],
)
def test_weights_that_cannot_be_served_end_it_with_one_sentence(
    start: Start, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(AssertionError, match=said) as caught, start(**settings):
        pass

    assert "Traceback" not in str(caught.value)


async def test_another_embedding_folder_is_one_setting_away(
    client: httpx.AsyncClient, start: Start, tmp_path: Path
) -> None:
    folder = TinyBert().write(tmp_path / "tiny-bert")
    with start("embedding", path=folder, artifacts_dir=tmp_path / "models", max_input_tokens=16) as server:
        response = await client.post(f"{server.url}/invocations", json={"inputs": ["refill claim"]})

    assert len(response.json()[0]) == 32
    assert ensure_artifact(server.settings).model == "tiny-bert"


async def test_a_process_that_was_built_before_starts_without_building(
    client: httpx.AsyncClient, embedding: Server, start: Start, artifacts_dir: Path
) -> None:
    artifact = artifacts_dir / "all-MiniLM-L6-v2" / "artifact.json"
    before = artifact.stat().st_mtime_ns

    with start("embedding") as server:
        assert (await client.get(f"{server.url}/ping")).status_code == 200

    assert artifact.stat().st_mtime_ns == before
