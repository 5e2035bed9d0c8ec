"""What a second embedding model adds to a tenant, and what stays when it becomes the first."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.cli.aws import reindex_by_function
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.stores.index.opensearch_schema import PIPELINE
from assistant.tenant.deployment_checks import artifact_contradictions
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import Terminal
from lambdas.reindex_passages import run
from stacks.ingestion import IngestionStack
from stacks.models import ModelsStack
from stacks.tenant import DeployedTenant
from tests.stacks.values import (
    MODELS,
    before,
    resources_of,
    stack_with,
    stage_for,
    template_of,
    with_second_embedding,
)


@cache
def tenant() -> DeployedTenant:
    """The pharmacy, with a second embedding model."""
    return with_second_embedding("pharmacy")


def models_of(tenant: DeployedTenant) -> dict[str, Any]:
    return template_of(stack_with(ModelsStack, tenant, stage=stage_for(tenant)))


@cache
def ingestion(name: str = "pharmacy") -> dict[str, Any]:
    models = replace(MODELS, embedding_next_endpoint_name=f"{name}-embedding-next")
    return template_of(stack_with(IngestionStack, with_second_embedding(name), models=models))


def policy_of(role: str, name: str = "pharmacy") -> dict[str, list[str]]:
    """Return the resources that the role may use, as JSON, by action."""
    found: dict[str, list[str]] = {}
    for logical_id, body in resources_of(ingestion(name), "AWS::IAM::Policy").items():
        if logical_id.startswith(role):
            for statement in body["Properties"]["PolicyDocument"]["Statement"]:
                actions = statement["Action"]
                for action in [actions] if isinstance(actions, str) else actions:
                    found.setdefault(action, []).append(json.dumps(statement["Resource"]))
    return found


def test_the_second_model_becomes_the_first_and_its_resources_stay() -> None:
    """Otherwise CloudFormation would create an endpoint under a name that exists."""
    both, config = tenant(), tenant().config
    assert config.embedding_next is not None
    only = replace(
        both,
        config=config.model_copy(update={"embedding": config.embedding_next, "embedding_next": None}),
        embedding=both.embedding_next or both.embedding,
        embedding_next=None,
    )
    before, after = models_of(both)["Resources"], models_of(only)["Resources"]
    stays = {name: body for name, body in before.items() if name.startswith("EmbeddingNext")}
    assert stays
    assert stays == {name: after.get(name) for name in stays}
    assert not [name for name in after if name.startswith("EmbeddingServing")]


def test_only_the_function_that_reindexes_creates_deletes_and_switches_versions() -> None:
    may = policy_of("ReindexRole")
    assert "*-passages-v*" in str(may["es:ESHttpDelete"])
    assert "_aliases" in str(may["es:ESHttpPost"])
    assert f"/_search/pipeline/{PIPELINE}" in str(may["es:ESHttpPut"])
    for role in ("IngestRole", "RemoveRole"):
        assert "es:ESHttpDelete" not in policy_of(role)
        assert "_aliases" not in str(policy_of(role))
    access = [
        body["Properties"]
        for body in resources_of(ingestion(), "Custom::SearchAccess").values()
        if body["Properties"]["Access"] == "reindex"
    ]
    assert len(access) == 1
    assert "ReindexRole" in str(access[0]["RoleArns"])


@pytest.mark.parametrize("name", ["pharmacy", "company"])
def test_the_index_maker_gets_its_access_after_the_schema_and_calls_both_endpoints(name: str) -> None:
    template = ingestion(name)
    (schema,) = resources_of(template, "Custom::SearchSchema")
    makers = [
        logical_id
        for logical_id, body in resources_of(template, "Custom::SearchAccess").items()
        if body["Properties"]["Access"] == "reindex"
    ]
    assert [schema in before(template, maker) for maker in makers] == [True]
    for role in ("IngestRole", "ReindexRole"):
        (endpoints,) = policy_of(role, name)["sagemaker:InvokeEndpoint"]
        called = {arn.rpartition("/")[2] for arn in json.loads(endpoints)}
        assert called == {MODELS.embedding_endpoint_name, f"{name}-embedding-next"}, role


def test_two_models_of_one_name_are_refused() -> None:
    changed = tenant()
    found = artifact_contradictions(
        changed.config,
        models=changed.models,
        llm=changed.llm,
        embedding=changed.embedding,
        embedding_next=changed.embedding,
    )
    assert [each for each in found if "both have the model" in each.said]


class Endless:
    """What reindexes, and never comes to an end."""

    stores = SimpleNamespace(tenant=SimpleNamespace(embedding_next=SimpleNamespace(model="tuned")))

    async def to_model(self, model: str, *, progress: Callable[[int, int], None]) -> None:
        progress(3, 9)
        await asyncio.Event().wait()


def test_a_call_of_the_function_ends_in_time_and_says_how_far_it_came() -> None:
    services: Any = Endless()
    assert asyncio.run(run(services, {"do": "next"}, slice_s=0.0)) == {"held": 3, "of": 9}
    with pytest.raises(ConfigurationError, match="cannot do"):
        asyncio.run(run(services, {"do": "all"}))


class Function(AwsAccount):
    """An account whose function answers in turn what it is given."""

    answers: list[dict[str, Any]] = []  # noqa: RUF012 - one test, one list
    asked: list[str] = []  # noqa: RUF012

    def outputs(self, stack: str) -> Any:
        return {"ReindexFunction": "reindex"} if stack == "assistant-pharmacy-Ingestion" else {}

    def call(self, service: str, call: str, *, missing: Any = (), **given: Any) -> Any:
        self.asked.append(given["Payload"])
        said = self.answers.pop(0)
        error = {"FunctionError": "Unhandled"} if "errorMessage" in said else {}
        return {"Payload": io.BytesIO(json.dumps(said).encode()), **error}


def test_the_command_calls_until_the_function_is_done_and_tells_its_error() -> None:
    account = Function(account="111122223333", region="us-east-1")
    account.answers[:] = [{"held": 3, "of": 9}, {"done": {"live": "v2"}}, {"errorMessage": "no model"}]
    given: dict[str, Any] = {"stack": "assistant-pharmacy-Ingestion", "terminal": Terminal(steps=True)}

    assert reindex_by_function(account, do="next", **given) == {"live": "v2"}
    assert account.asked == [json.dumps({"do": "next"})] * 2
    with pytest.raises(DeploymentError, match="no model"):
        reindex_by_function(account, do="back", **given)
    with pytest.raises(DeploymentError, match="embedding_next"):
        reindex_by_function(account, do="next", **{**given, "stack": "assistant-clinic-Ingestion"})
