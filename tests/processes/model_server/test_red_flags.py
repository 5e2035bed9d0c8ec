"""The red flags of the shipped tenants with the packaged model, on messages of held-out writers."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from assistant.domain.clock import SystemClock
from assistant.evaluation.measures import figures, read_figures
from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import FlaggedMessage, raise_flags, with_own_flag
from assistant.tenant.tenant import load_tenant
from tests.processes.model_server.conftest import Embedding

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "evaluation"
FIGURES = read_figures(FOLDER)


@pytest.mark.parametrize(
    ("name", "most_ordinary"),
    [("red-flags", 0.017), ("red-flags-later", 0.015)],  # asked: 0.015; 5 of 300 and 2 of 300 were measured
)
async def test_red_flags_are_raised_as_often_as_docs_red_flags_says(
    name: str, most_ordinary: float, embedding: Embedding
) -> None:
    figure = FIGURES[name]
    tenant = load_tenant(ROOT / "tests" / "tenants" / "pharmacy.toml")
    own, *written = (
        load_rows(path, FlaggedMessage, key="message") for path in figure.paths(FOLDER, tenant=tenant.name)
    )
    messages = list(chain.from_iterable(written))
    embedder = embedding(precision="float32")
    judged = await raise_flags(with_own_flag(tenant, own), embedder, messages, clock=SystemClock())
    found = figures(judged)
    assert found["ordinary messages that raise a flag"].questions == 300
    most = {**figure.most, "ordinary messages that raise a flag": most_ordinary}
    missed = {
        measure: found[measure].value
        for measure in (*figure.least, *figure.most)
        if not figure.least.get(measure, 0.0) <= found[measure].value <= most.get(measure, 1.0)
    }
    assert missed == {}
