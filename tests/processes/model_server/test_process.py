"""Starting, being asked whether it is well, and stopping."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.processes.model_server.conftest import Start


async def test_it_is_well_once_ready_and_stops_within_its_bound(
    client: httpx.AsyncClient, start: Start
) -> None:
    with start() as server:
        assert (await client.get(f"{server.url}/ping")).status_code == 200

        assert server.stop() == 0

    assert server.log.read_text() == ""


async def test_it_stops_while_it_generates(client: httpx.AsyncClient, start: Start) -> None:
    body = {
        "messages": [{"role": "user", "content": "Tell a long story."}],
        "max_tokens": 1500,
        "stream": True,
    }
    with start(slots=1) as server:
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
        ({"task": "embedding"}, "Text Embeddings Inference"),
        ({"path": Path("nowhere")}, "nowhere"),
        ({"path": Path(__file__)}, "not a GGUF file"),
    ],
)
def test_weights_that_cannot_be_served_end_it_with_one_sentence(
    start: Start, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(AssertionError, match=said) as caught, start(**settings):
        pass

    assert "Traceback" not in str(caught.value)
