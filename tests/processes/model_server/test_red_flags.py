"""The red flags of the shipped tenants with the packaged model, on messages that nobody tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx

from assistant.domain.clock import Deadline, SystemClock
from assistant.evaluation.measures import figures
from assistant.evaluation.questions import load_rows
from assistant.evaluation.runs import read_figures
from assistant.evaluation.trials import FlaggedMessage, calm_messages, raise_flags
from assistant.settings.tenant import load_tenant
from tests.processes.model_server.conftest import Start

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "evaluation"
FIGURE = read_figures(FOLDER)["red-flags"]


class Endpoint:
    """``TextEmbedder`` over a server of the packaged model."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        del deadline
        body = {"inputs": list(texts), "normalize": True}
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as client:
            return (await client.post("/invocations", json=body)).raise_for_status().json()


async def test_red_flags_are_raised_as_often_as_docs_red_flags_says(start: Start) -> None:
    tenant = load_tenant(ROOT / "tests/tenants/pharmacy.toml")
    first, *more = FIGURE.paths(FOLDER, tenant=tenant.name)
    messages = load_rows(first, FlaggedMessage, key="message")
    with start("embedding", precision="float32") as server:
        embedder, calm = Endpoint(server.url), calm_messages(more, half=FIGURE.half)
        found = figures(await raise_flags(tenant, embedder, messages, calm, clock=SystemClock()))

    raised, false = found["emergencies that raise a flag"], found["ordinary questions that raise a flag"]
    assert (raised.questions, false.questions) == (60, 300)
    assert raised.value * 60 >= 51, "52 were measured; 57 (95 %) are asked"
    assert false.value * 300 <= 4.1, "3 were measured; 6 (2 %) are asked"
