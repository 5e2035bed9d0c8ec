"""Calls of SageMaker's SDK for each order, held against the stacks, an operator's policy and the stand-in."""
# pyright: basic

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from assistant.domain.clock import SystemClock
from assistant.domain.errors import DeploymentError
from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.options.models_lab.commands.candidates import Trial
from assistant.options.models_lab.commands.compiling import _Compiling
from assistant.options.models_lab.commands.training import TrainingJob
from assistant.options.models_lab.jumpstart import Candidate, Facts, TrialPlace
from assistant.tenant.manifests import COMPILE_OUTPUT, TRAIN_OUTPUT, LlmManifest, instance_named
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AwsAccount, Deployed
from stacks.data import DataStack
from stacks.models import ModelsStack
from tests.stacks.delivery_roles import OPERATOR, REGION, policies_of
from tests.stacks.rights.requests import Request, judge
from tests.stacks.values import ROOT, deployed, stack_with, template_of, text_of
from tests.stage.aws_calls import Call, KeptCalls, read_calls
from tests.stage.programs import lacks
from tests.stage.sagemaker_control import ACCOUNT, SageMakerControl, install_sdk

KINDS = ("train", "compile", "try")
TENANT = "sandbox"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/own@sha256:{'a' * 64}"
KEY_ID = "of-the-process"


def said_by(stack: Any, output: str, *, tenant: str) -> dict[str, Any]:
    """Return a stack's output, with roles named as CloudFormation names them."""
    template = template_of(stack_with(stack, deployed(tenant)))
    text = text_of(template["Outputs"][output]["Value"]).replace("111122223333", ACCOUNT)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            path = resource["Properties"].get("Path", f"/assistant/{tenant}/")  # the stage gives it
            arn = f"arn:aws:iam::{ACCOUNT}:role{path}assistant-{tenant}-{name}-AB12"
            text = text.replace(f"${{{name}.Arn}}", arn)
    return json.loads(text.replace("${", "").replace("}/", "/"))


@dataclass(frozen=True)
class Started:
    """An order, and the calls that it led to."""

    kind: str
    tenant: str
    order: Mapping[str, Any]
    calls: list[Call]


def orders(kind: str) -> tuple[str, dict[str, Any]]:
    """Return the tenant and the order of a command."""
    account = AwsAccount(account=ACCOUNT, region=REGION)
    if kind == "train":
        said = said_by(LearningStack, TRAIN_OUTPUT, tenant="pharmacy")
        job = TrainingJob(
            account,
            "job-1",
            IMAGE,
            instance_named("ml.g5.2xlarge"),
            "2026-11/",
            "llm/a/",
            {"beta": "1"},
            True,
        )
        return "pharmacy", job.completed(said)
    if kind == "compile":
        said = said_by(DataStack, COMPILE_OUTPUT, tenant="pharmacy")
        file = ROOT / "tests/tenants/pharmacy.toml"
        folder = ROOT / "model_artifacts/llm/qwen3-8b-inf2"
        compiling = _Compiling(LlmManifest.read(folder), folder, Deployed.of(load_tenant(file), file))
        order = compiling.order(said, name="compile-1", image=IMAGE)
        return "pharmacy", order | {"channels": {"weights": "s3://value/llm/w/"}}
    said = said_by(ModelsStack, "TrialPlace", tenant=TENANT)
    facts = Facts(
        region=REGION,
        version="1.0.0",
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tgi:1",
        artifact="s3://jumpstart/a/",
        listing_sha256="b" * 64,
        files=("config.json",),
        weights_bytes=10**9,
        licence="MIT",
        instance="ml.m7i.xlarge",
        environment={"WORKERS": "1"},
    )
    row = Candidate(id="one", task="llm", model="a/b", family="f", purpose="p", facts=facts)
    place, now = TrialPlace.model_validate(said), SystemClock().now()
    return TENANT, Trial(account, place, row, facts, TENANT, ROOT, now).order(place.endpoints[0])


@contextmanager
def sagemaker(file: Path) -> Iterator[str]:
    """Serve an emulated SageMaker whose calls are written to a file; gives its URL."""
    server = make_server(
        "127.0.0.1", 0, KeptCalls(SageMakerControl(), key_id=KEY_ID, file=file), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start(kind: str, order: Mapping[str, Any], folder: Path, *, real: bool) -> list[Call]:
    """Start an order by the process, and return its calls. Raises what the command raises."""
    (folder / "model_artifacts").mkdir(parents=True)
    shutil.copy(ROOT / "model_artifacts/jobs.py", folder / "model_artifacts")
    install_sdk(folder, real=real)
    with sagemaker(folder / "calls") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        kind = "endpoint" if kind == "try" else "training_job"
        sagemaker_jobs.start(kind, order, region=REGION, root=folder)
    return read_calls(folder / "calls")


@pytest.fixture(autouse=True, scope="module")
def _sdk() -> None:
    if not (ROOT / "build/sagemaker/stamp").exists():
        lacks("SageMaker's SDK (make sagemaker-sdk)")


@pytest.fixture(scope="module", params=KINDS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Started:
    tenant, order = orders(request.param)
    calls = start(request.param, order, tmp_path_factory.mktemp("real"), real=True)
    return Started(request.param, tenant, order, calls)


def test_the_sdk_makes_the_calls_of_the_stand_in_and_no_other(started: Started, tmp_path: Path) -> None:
    stand_in = start(started.kind, started.order, tmp_path, real=False)

    assert [call.operation for call in started.calls] == [call.operation for call in stand_in]
    assert [dict(call.given) for call in started.calls] == [dict(call.given) for call in stand_in]
    assert {call.service for call in started.calls} == {"sagemaker"}


_NAMES = {"TrainingJob": "training-job", "Model": "model", "EndpointConfig": "endpoint-config"}


def asked(call: Call, *, tenant: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield action, resource and context of what IAM is asked for a call.

    Service Authorization Reference, "Amazon SageMaker": tags ask for AddTags, a role for PassRole.
    """
    kind = call.operation.removeprefix("Create").removeprefix("Describe")
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{_NAMES.get(kind, 'endpoint')}/{call.given[f'{kind}Name']}"
    if call.operation.startswith("Describe"):
        yield f"sagemaker:{call.operation}", arn, {"aws:ResourceTag/tenant": tenant}
        return
    context = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in call.given["Tags"]}
    if kind in ("TrainingJob", "Model"):
        context["sagemaker:NetworkIsolation"] = str(call.given.get("EnableNetworkIsolation", False)).lower()
        context |= {"sagemaker:VpcSubnets": "subnet"} if "VpcConfig" in call.given else {}
    yield f"sagemaker:{call.operation}", arn, context
    yield "sagemaker:AddTags", arn, context
    if role := call.given.get("RoleArn") or call.given.get("ExecutionRoleArn"):
        yield "iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"}


def refused(calls: list[Call], *, tenant: str, of: str | None = None) -> list[str]:
    """Return the actions that an operator's policy refuses. ``of``: the tenant whose things they are."""
    policies = policies_of(OPERATOR, "StartsJobs", tenant=tenant, account=ACCOUNT)
    requests = [
        Request(
            principal=f"arn:aws:iam::{ACCOUNT}:role/operator",
            action=action,
            resource=resource,
            account=ACCOUNT,
            context=context,
            identity=policies,
        )
        for call in calls
        for action, resource, context in asked(call, tenant=of or tenant)
    ]
    return [each.request.action for each in judge(requests) if not each.is_allowed]


def test_an_operator_may_make_each_call(started: Started) -> None:
    assert refused(started.calls, tenant=started.tenant) == []


def test_an_operator_of_another_tenant_may_make_none(started: Started) -> None:
    asked_for = [action for call in started.calls for action, _, _ in asked(call, tenant=started.tenant)]
    assert refused(started.calls, tenant="clinic", of=started.tenant) == asked_for


@pytest.mark.parametrize("lost", ["EnableNetworkIsolation", "VpcConfig"])
def test_a_job_outside_the_tenant_s_network_is_refused(started: Started, lost: str) -> None:
    call = deepcopy(started.calls[0])
    open_call = Call(
        key_id=call.key_id,
        service=call.service,
        operation=call.operation,
        given={name: value for name, value in call.given.items() if name != lost},
    )
    assert refused([open_call], tenant=started.tenant) == [f"sagemaker:{call.operation}"]


def test_an_order_that_the_sdk_refuses_is_told(tmp_path: Path) -> None:
    _, order = orders("train")
    with pytest.raises(DeploymentError, match=r"SDK cannot start 7: (?s:.*)training_job_name"):
        start("train", order | {"name": 7}, tmp_path, real=True)
