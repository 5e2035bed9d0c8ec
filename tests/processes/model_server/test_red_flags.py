"""The red flags of the shipped tenants with the packaged model, on messages of held-out writers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import httpx

from assistant.domain.clock import Deadline, SystemClock
from assistant.evaluation.measures import figures
from assistant.evaluation.questions import load_rows
from assistant.evaluation.runs import read_figures
from assistant.evaluation.trials import FlaggedMessage, raise_flags, with_own_flag
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
    tenant = load_tenant(ROOT / "tests" / "tenants" / "pharmacy.toml")
    own, *written = (
        load_rows(path, FlaggedMessage, key="message") for path in FIGURE.paths(FOLDER, tenant=tenant.name)
    )
    messages = list(chain.from_iterable(written))
    with start("embedding", precision="float32") as server:
        judged = await raise_flags(
            with_own_flag(tenant, own), Endpoint(server.url), messages, clock=SystemClock()
        )
    found = figures(judged)
    assert found["ordinary messages that raise a flag"].questions == 300
    # 5 of 300 were measured; 4 are asked.
    most = {**FIGURE.most, "ordinary messages that raise a flag": 0.017}
    missed = {
        name: found[name].value
        for name in (*FIGURE.least, *FIGURE.most)
        if not FIGURE.least.get(name, 0.0) <= found[name].value <= most.get(name, 1.0)
    }
    assert missed == {}
