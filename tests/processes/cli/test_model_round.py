"""The round from a mark to a served model and back, one command each.

Training and its GGUF alone are replaced, by the packaged weights. ``check-training`` has the job.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from shop import DESK, Shop, open_shop

from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings

pytestmark = [pytest.mark.integration, pytest.mark.night]
QUESTION = "When does the help desk answer the phone?"
BETTER = "The help desk answers from 8:00 to 18:30, Monday to Saturday."
EVALUATED = {"qid": "q1", "kind": "plain", "question": QUESTION, "documents": ["help-desk"], "gold": [DESK]}
WAIT_S = 60.0


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return open_shop(tmp_path)


def mark(shop: Shop) -> None:
    """Mark an answer bad with a better text, as an agent's page does, and wait until the mark has left."""
    shop.run("knowledge", "add", "--tenant", "shop")
    rows = json.loads(shop.run("tenant", "up", "--json"))["processes"]
    address = next(row["address"] for row in rows if row["name"] == "service")
    token = shop.run("tenant", "token", "--tenant", "shop", "--agent", "ann").strip()
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        asked = client.post(
            "/v1/answers", json={"question": QUESTION}, headers={"Accept": "application/json"}
        ).raise_for_status()
        assert "18:30" in asked.text
        body = {"verdict_id": "v1", "label": "bad", "reasons": ["wording"], "better_text": BETTER}
        client.post(f"/v1/answers/{asked.json()['answer_id']}/verdict", json=body).raise_for_status()
    events, ends_at = shop.folder / ".state/tenants/shop/feedback/events", time.monotonic() + WAIT_S
    while not list(events.rglob("*.*")):
        assert time.monotonic() < ends_at, "the mark did not leave"
        time.sleep(0.2)
    shop.run("tenant", "down")


def llm_in_use(shop: Shop) -> str:
    rows = json.loads(shop.run("models", "list", "--json"))["models"]
    (name,) = [row["name"] for row in rows if row["task"] == "generation" and "shop" in row["used_by"]]
    return name


def test_a_mark_becomes_a_served_model_and_the_packaged_one_comes_back(shop: Shop, tmp_path: Path) -> None:
    mark(shop)
    shop.run("learn", "export", "--tenant", "shop", "--out", "sets")
    (training_set,) = (shop.folder / "sets").iterdir()
    examples = [
        json.loads(line)
        for file in training_set.glob("preference.*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert [example["chosen"] for example in examples] == [[{"role": "assistant", "content": BETTER}]]

    tuned = locate_weights(ModelServerSettings(task="generation", artifacts_dir=tmp_path)).path
    (shop.folder / "questions.jsonl").write_text(json.dumps(EVALUATED) + "\n")
    asked = ("evaluate", "--tenant", "shop", "--questions", "questions.jsonl")
    shop.run(*asked, "--name", "before")
    shop.run("models", "add", str(tuned), "--tenant", "shop", "--name", "tuned", "--writes-answers")
    assert llm_in_use(shop) == "tuned"
    after = json.loads(shop.run(*asked, "--name", "after", "--against", "before", "--json"))
    assert after["name"] == "after"
    shop.run("models", "use", "--tenant", "shop", "--packaged")
    assert llm_in_use(shop) == "SmolLM2-135M-Instruct"
