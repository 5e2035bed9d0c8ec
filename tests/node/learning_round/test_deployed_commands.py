"""``assistant learn --deployed pairs | ranking | routing`` on a deployment's stores and index."""

from __future__ import annotations

import json
from pathlib import Path

from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind, RankerRelease, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from tests.fakes.synthetic_feedback import DAY, START, World, feedback
from tests.node.learning_round.conftest import LearningDeployment
from tests.unit.tuning.test_gate import protected_set

TEXTS = {
    "refills": "# Refills\n\nA refill takes two days. The patient may collect it until nine.\n",
    "insulin": "# Insulin\n\nKeep insulin in the fridge. It is stable for a month at room temperature.\n",
    "claims": "# Claims\n\nA claim needs the receipt. The insurer pays within three weeks of it.\n",
}
PRODUCTS = tuple(
    f"{colour} {form}"
    for colour in ("green", "amber", "violet", "white")
    for form in ("ointment", "syrup", "lozenge", "plaster", "spray")
)
PLACES = ("cellar", "cabinet", "counter", "window", "drawer", "vault", "trolley", "shelf")
SAYS = ("grams of the {}", "folks on the {}")
"""No word of a kind of source is among them, so that keywords know nothing."""


async def know(deployment: LearningDeployment, *, many: bool = False) -> None:
    texts = TEXTS | {
        product: f"# The {product}\n\n"
        + "\n\n".join(
            f"## The {product} in the {place}\n\n"
            f"Put the {product} into the {place} before the store closes at noon. "
            f"Whoever takes the {product} out of the {place} signs the list of the day with a full name."
            for place in PLACES
        )
        for product in (PRODUCTS if many else ())
    }
    for name, text in texts.items():
        await deployment.aws.know(name.replace(" ", "-"), text, tenant="pharmacy")
    await deployment.aws.know(
        "salaries", "# Salaries\n\nSecretly all earn ten.", tenant="pharmacy", labels=("hr",)
    )


def question(qid: str, document: str) -> dict[str, object]:
    asked = f"What about the {document} of this patient?"
    return {"qid": qid, "kind": "plain", "question": asked, "documents": [document], "gold": ["two"]}


async def test_pairs_are_of_open_documents_that_no_question_asks_about(
    deployment: LearningDeployment,
) -> None:
    await know(deployment, many=True)
    await deployment.put_lines("evaluation/pharmacy.jsonl", [question("q1", "claims")])
    told = await deployment.learned("pairs", "--out", str(deployment.folder / "sets"))
    files = await deployment.files(told["folder"])
    assert {"manifest.json", "card.md"} <= files.keys()
    manifest = json.loads(files["manifest.json"])
    assert manifest["questions_sha256"]
    every = b"".join(content for name, content in files.items() if name.endswith(".jsonl"))
    assert b"Keep insulin in the fridge" in every
    assert b"Put the amber syrup into the vault" in every
    assert b"receipt" not in every, "evaluation asks about this document"
    assert b"Secretly" not in b"".join(files.values()), "this document has an access label"
    assert sum(told["pairs"].values()) == sum(
        content.count(b"\n") for name, content in files.items() if name.startswith("pairs.")
    )


async def act(deployment: LearningDeployment, answers: int) -> None:
    """Let agents judge answers of the last ten days, so that titles should count more."""
    later = SystemClock().now() - 12 * DAY - START
    events = [
        event.model_copy(update={"at": event.at + later, "asked_at": event.asked_at + later})
        for event in feedback(answers, World(change={"title_cosine": 0.6}))
    ]
    for start in range(0, len(events), 500):
        await deployment.feedback.append(events[start : start + 500], [])


async def test_ranking_observes_the_committed_questions_on_the_deployments_answer_path(
    deployment: LearningDeployment, tmp_path: Path
) -> None:
    await know(deployment)
    await act(deployment, 400)
    await deployment.put_lines(
        "evaluation/pharmacy.jsonl", [question(f"q{name}", name) for name in ("claims", "insulin")]
    )
    out = tmp_path / "observed.json"
    done = await deployment.learn("questions", "--out", str(out))
    assert done.exit_code == 0, done.output
    observed = json.loads(out.read_text())
    assert {one["document"] for one in observed["questions"]} == {"claims", "insulin"}
    assert all(one["candidates"] for one in observed["questions"]), "what the search found of the index"

    done = await deployment.learn("ranking")
    assert done.exit_code == 1, "two questions are too few for the gate"
    (release,) = await deployment.desk.list(DeskKind.RANKER_RELEASE)
    content = RankerRelease.model_validate_json(release.body)
    assert (content.state, content.signals) == (ReleaseState.REFUSED, 400)


async def test_a_dry_run_of_ranking_stores_nothing(deployment: LearningDeployment, tmp_path: Path) -> None:
    await act(deployment, 800)
    questions = tmp_path / "ranking.json"
    questions.write_text(protected_set(by_title=True).model_dump_json())
    told = await deployment.learned("ranking", "--questions", str(questions), "--dry-run")
    assert (told["state"], told["signals"]) == ("refused", 800)
    assert "the sealed half is closed" in json.dumps(told["report"])
    assert await deployment.desk.list(DeskKind.RANKER_RELEASE) == []


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
