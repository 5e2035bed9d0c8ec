"""``assistant learn --deployed routing`` on a deployment's stores and index."""

from __future__ import annotations

from assistant.domain.desk import DeskKind, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from tests.node.learning_round.conftest import LearningDeployment

TEXTS = {
    "refills": "# Refills\n\nA refill takes two days. The patient may collect it until nine.\n",
    "insulin": "# Insulin\n\nKeep insulin in the fridge. It is stable for a month at room temperature.\n",
    "claims": "# Claims\n\nA claim needs the receipt. The insurer pays within three weeks of it.\n",
}
SAYS = ("grams of the {}", "folks on the {}")
"""No word of a kind of source is among them, so that keywords know nothing."""


async def know(deployment: LearningDeployment) -> None:
    for name, text in TEXTS.items():
        await deployment.aws.know(name, text, tenant="pharmacy")


async def test_a_router_is_learned_released_and_taken_back(deployment: LearningDeployment) -> None:
    await know(deployment)
    rows = [
        {
            "id": f"q{at}",
            "question": SAYS[at % 2].format(f"item{at // 2}"),
            "kind": "fact",
            "sources": ["handbook", "chatter"] if at % 2 == 0 else ["chatter"],
            "items": [f"item{at}"],
        }
        for at in range(40)
    ]
    await deployment.put_lines("evaluation/pharmacy/routing.jsonl", rows)
    told = await deployment.learned("routing")
    assert (told["state"], told["questions"]) == ("live", 40)
    assert len(deployment.sagemaker.embeddings) > 0, "the questions' vectors come from the endpoint"
    (item,) = await deployment.desk.list(DeskKind.ROUTER_RELEASE)
    assert RouterRelease.model_validate_json(item.body).state is ReleaseState.LIVE
    assert (await deployment.learned("routing", "--rollback"))["rolled_back"] == told["release"]
    (item,) = await deployment.desk.list(DeskKind.ROUTER_RELEASE)
    assert RouterRelease.model_validate_json(item.body).state is not ReleaseState.LIVE


async def test_a_tenant_without_labelled_questions_is_told_so(deployment: LearningDeployment) -> None:
    done = await deployment.learn("routing")
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigurationError)
    assert "tuning.jsonl or routing.jsonl" in str(done.exception)
