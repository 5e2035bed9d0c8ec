"""Each command that calls AWS: by which policy each of its calls is allowed, and that the same call with a
neighbour's names is not. The calls of the longer commands are asked where they are made."""

# pyright: basic

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from typer.testing import CliRunner

from assistant.cli.aws.proving import FILE as PROOFS
from assistant.cli.aws.proving import Proofs, Proving
from assistant.cli.evaluate import _priced
from assistant.cli.main import app
from assistant.domain.documents import UploadResult
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.options.models_lab.commands.candidates import Trial
from assistant.options.models_lab.commands.compiling import _Compiling
from assistant.options.models_lab.commands.training import TrainingJob
from assistant.options.models_lab.jumpstart import Candidate, Facts, Listed, TrialPlace, listing_sha256
from assistant.tenant.manifests import LlmManifest, instance_named
from assistant.tenant.tenant import load_tenant
from assistant.tenant.toml_file import read_strict
from assistant.terminal.account import AwsAccount, Deployed
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.stacks.delivery_roles import OPERATOR, UNTAGGED, data_key, policies_of, refused
from tests.stacks.rights.model import Store
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import Call
from tests.stage.tenant_files import TENANTS

# --- AWS by a script --------------------------------------------------------------------------------------
OF_COMMAND, OF_ROLE = "command", "role"
"""Key ids: of whoever runs the command, and of a role that it assumed."""
_SESSION = dict.fromkeys(("AccessKeyId", "SecretAccessKey", "SessionToken"), "x")


@cache
def _model_of(service: str) -> Any:
    given = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    return boto3.client(service, region_name="us-east-1", **given).meta


@dataclass(frozen=True, slots=True)
class _Client:
    service: str
    key_id: str
    answers: Mapping[str, Any]
    made: list[Call]

    def _answer(self, name: str, given: Mapping[str, Any]) -> Any:
        model = _model_of(self.service)
        operation, signed = model.method_to_api_mapping[name], model.service_model.signing_name
        self.made.append(Call(key_id=self.key_id, service=signed, operation=operation, given=dict(given)))
        answer = self.answers.get(f"{self.service}.{name}", {})
        return answer(**given) if callable(answer) else answer

    def __getattr__(self, name: str) -> Any:
        return lambda **given: self._answer(name, given)

    def get_paginator(self, name: str) -> Any:
        return _Pages(self, name)

    def upload_fileobj(self, _body: Any, bucket: str, key: str) -> None:
        self._answer("put_object", {"Bucket": bucket, "Key": key})


@dataclass(frozen=True, slots=True)
class _Pages:
    client: _Client
    name: str

    def paginate(self, **given: Any) -> _Page:
        return _Page([self.client._answer(self.name, given)])


class _Page(list[Any]):
    def build_full_result(self) -> Any:
        return self[0]


@contextmanager
def scripted_aws(account: str, answers: Mapping[str, Any]) -> Iterator[list[Call]]:
    """Answer the calls of ``AwsAccount`` inside the block; gives those that were made.

    ``answers``: by service and call (``ssm.get_parameter``), a response or a function of what is given; an
    empty response where there is none.
    """
    made: list[Call] = []
    answers = {
        "sts.get_caller_identity": {"Account": account, "Arn": f"arn:aws:iam::{account}:role/x"},
        "sts.assume_role": {"Credentials": _SESSION},
        **answers,
    }

    def client(self: AwsAccount, service: str) -> _Client:
        return _Client(service, OF_ROLE if self.credentials else OF_COMMAND, answers, made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AwsAccount, "client", client)
        yield made


# --- tests ------------------------------------------------------------------------------------------------
FILE = TENANTS / "pharmacy.toml"
ACCOUNT, REGION, TENANT = "111122223333", "us-east-1", "pharmacy"
AWS = AwsAccount(account=ACCOUNT, region=REGION)
ASKED_IN: Mapping[str, tuple[str, ...]] = {
    "cli/aws/__init__.py": ("test_command_rights.py", "test_destroy.py", "test_rehearsal_rights.py"),
    "cli/aws/deploying.py": ("test_deploy_command.py",),
    "cli/aws/proving.py": ("test_command_rights.py",),  # its rows are commands of their own
    "cli/aws/verifying.py": ("test_deploy_command.py", "test_command_rights.py"),
    "cli/evaluate.py": ("test_command_rights.py",),
    "cli/knowledge.py": ("test_command_rights.py",),
    "cli/tenant.py": ("test_command_rights.py",),
    "options/models_lab/commands/candidates.py": ("test_command_rights.py", "../jobs/test_calls.py"),
    "options/models_lab/commands/compiling.py": ("test_command_rights.py", "../jobs/test_calls.py"),
    "options/models_lab/commands/packaging.py": ("test_deploy_command.py",),  # as put-artifacts
    "options/models_lab/commands/training.py": ("test_command_rights.py", "../jobs/test_calls.py"),
    "terminal/account.py": ("test_command_rights.py",),
    "terminal/publishing.py": ("test_deploy_command.py",),
}
"""Module that opens an account for a command = the tests that ask for its calls."""
_DATA = f"assistant-{TENANT}-data"
_ROLE = f"arn:aws:iam::{ACCOUNT}:role/assistant/{TENANT}/assistant-{TENANT}"
_MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:PowerMachinesResume-AB12"
_OUTPUTS = {
    "ArtifactPublisherArn": f"{_ROLE}-Data-ArtifactPublisher",
    "ModelsBucketName": f"{_DATA}-modelsbucket-x",
    "RecoveryVault": "recovery-0a1b",
    "ReindexFunction": f"assistant-{TENANT}-Ingestion-DocumentsReindexAB12",
    "ResumeMachine": _MACHINE,
}
_TRIAL = f"assistant-{TENANT}-trial-1"


class Body:
    """A body of a response."""

    def __init__(self, content: object) -> None:
        self._content = json.dumps(content).encode()

    def read(self) -> bytes:
        return self._content


def answers(**more: Any) -> dict[str, Any]:
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in _OUTPUTS.items()]
    return {
        "cloudformation.describe_stacks": {
            "Stacks": [{"StackStatus": "CREATE_COMPLETE", "Outputs": outputs}]
        },
        "service-quotas.list_service_quotas": {
            "Quotas": [
                {"QuotaName": "ml.trn1.2xlarge for training job usage", "Value": 9.0, "QuotaCode": "L-1"},
            ]
        },
        "s3.list_objects_v2": {"KeyCount": 1, "Contents": []},
        "s3.put_object": {"VersionId": "v1"},
        **{name.replace("__", "."): answer for name, answer in more.items()},
    }


def commanded(*words: str, **more: Any) -> list[Call]:
    """Run a command of the tenant; return the calls that were made."""
    with scripted_aws(ACCOUNT, answers(**more)) as made:
        done = CliRunner().invoke(app, ["--tenants", str(TENANTS), *words, "--tenant", TENANT])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return made


def resume(_: Path) -> list[Call]:
    states = iter(["paused", "on"])
    execution = {"executionArn": f"{_MACHINE}:1", "status": "RUNNING"}
    listed = iter([{"executions": []}, {"executions": [execution]}])
    return commanded(
        *("aws", "resume"),
        ssm__get_parameter=lambda **_: {"Parameter": {"Value": next(states)}},
        cloudformation__get_template={"TemplateBody": {"Resources": {}}},
        stepfunctions__list_executions=lambda **_: next(listed),
        stepfunctions__start_execution=execution,
    )


def revoke(_: Path) -> list[Call]:
    return commanded(
        "tenant", "revoke", "--agent", "ann", "--deployed", ssm__get_parameter={"Parameter": {"Value": "{}"}}
    )


def reindex(_: Path) -> list[Call]:
    return commanded("aws", "reindex", lambda__invoke={"Payload": Body({"done": {}})})


def points(folder: Path) -> list[Call]:
    receipt = {"document_id": "d", "withdrawn_at": "2026-11-20T09:30:00+00:00", "places": []}
    file = folder / "receipt.json"
    file.write_text(json.dumps(receipt), encoding="utf-8")
    return commanded("aws", "receipt", "verify", str(file), "--points")


def push(folder: Path) -> list[Call]:
    source = folder / "knowledge"
    source.mkdir()
    (source / "a.md").write_text("# A\n\nText.\n", encoding="utf-8")
    result = json.loads(UploadResult(added=1).model_dump_json())
    return commanded(
        *("knowledge", "push", str(source)),
        ssm__get_parameter={"Parameter": {"Value": f"{_DATA}-inboxbucket-x"}},
        s3__get_object=lambda **_: {"Body": Body(result)},
    )


def train(_: Path) -> list[Call]:
    bucket = f"s3://assistant-{TENANT}-learning-trainingbucket-x/sets/"
    channels = [
        {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}
        for name, uri in (("training", bucket), ("model", f"s3://{_DATA}-modelsbucket-x/"))
    ]
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/private-care-assistant/training@sha256:{'a' * 64}"
    job = TrainingJob(AWS, "job", image, instance_named("ml.trn1.2xlarge"), "2026-11/", "llm/a/", {}, False)
    with scripted_aws(ACCOUNT, answers()) as made:
        job.order({"InputDataConfig": channels}, root=ROOT)
    return made


def attempt(folder: Path) -> list[Call]:
    """A trial whose endpoint SageMaker refuses, so that it is taken back."""
    place = TrialPlace(
        endpoints=(_TRIAL,),
        role_arn=f"{_ROLE}-Models-Trials",
        clean_up_role_arn=f"{_ROLE}-Models-TrialsCleanUp",
        bucket=f"{_DATA}-modelsbucket-x",
        key_arn="arn:x",
        subnets=("subnet-0a",),
        security_group="sg-0a",
    )
    facts = Facts(
        region=REGION,
        version="1.0.0",
        image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tgi:1",
        artifact=f"s3://jumpstart-cache-prod-{REGION}/a/",
        listing_sha256=listing_sha256([Listed(key="config.json", size_bytes=3, etag="e")]),
        files=("config.json",),
        weights_bytes=10**9,
        licence="MIT",
        instance="ml.m7i.xlarge",
        environment={},
    )
    row = Candidate(id="one", task="llm", model="a/b", family="f", purpose="p", facts=facts)
    trial = Trial(AWS, place, row, facts, TENANT, folder, datetime(2026, 11, 30, tzinfo=UTC))
    listed = {"Contents": [{"Key": "a/config.json", "Size": 3, "ETag": '"e"'}]}

    def refuse(*_: Any, **__: Any) -> None:
        raise DeploymentError("ResourceLimitExceeded")

    deployed = Deployed.of(load_tenant(FILE), FILE)
    by_place = {f"jumpstart-cache-prod-{REGION}": listed}
    scripted = answers(
        s3__list_objects_v2=lambda Bucket, **_: by_place.get(Bucket, {}),
        s3__get_object=lambda **_: {"Body": Body({})},
        sagemaker__describe_endpoint={"EndpointStatus": "Creating"},
        sagemaker__describe_endpoint_config={"a": 1},
        sagemaker__describe_model={"a": 1},
        scheduler__create_schedule={"ScheduleArn": "x"},
    )
    with scripted_aws(ACCOUNT, scripted) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sagemaker_jobs, "start", refuse)
        trial.copy(deployed.publisher(), Terminal())
        with pytest.raises(DeploymentError, match="ResourceLimitExceeded"):
            trial.start()
    return made


def promote(_: Path) -> list[Call]:
    folder = ROOT / "model_artifacts/llm/qwen3-8b-inf2"
    compiling = _Compiling(LlmManifest.read(folder), folder, Deployed.of(load_tenant(FILE), FILE))
    failed = {"TrainingJobStatus": "Failed"}
    scripted = answers(sagemaker__describe_training_job=failed)
    with (
        scripted_aws(ACCOUNT, scripted) as made,
        pytest.raises(DeploymentError, match="Nothing is promoted"),
    ):
        compiling.promote("compile-1")
    return made


def prove(_: Path) -> list[Call]:
    """A run of all rows, which is refused: the tenant stands."""
    proving = Proving(Deployed.of(load_tenant(FILE), FILE), TENANTS, read_strict(PROOFS, Proofs), Terminal())
    with scripted_aws(ACCOUNT, answers()) as made, pytest.raises(ConfigurationError, match="has stacks"):
        proving.all_of_sandbox(15.0)
    return made


def compare(_: Path) -> list[Call]:
    """An endpoint of the tenant, with its price; then it is asked, by another client than the command's."""
    served = SimpleNamespace(region=REGION, model=f"{TENANT}-llm")
    weights = {"ModelDataSource": {"S3DataSource": {"S3Uri": "s3://b/llm/"}}}
    variant = {"ModelName": f"assistant-{TENANT}-trial-1", "InstanceType": "ml.g5.2xlarge"}
    scripted = answers(
        sagemaker__describe_endpoint={"EndpointConfigName": f"assistant-{TENANT}-trial-1"},
        sagemaker__describe_endpoint_config={"ProductionVariants": [variant]},
        sagemaker__describe_model={"PrimaryContainer": weights},
    )
    options = GlobalOptions(tenants_dir=TENANTS, state_dir=ROOT / "build", port=None, json=True)
    with scripted_aws(ACCOUNT, scripted) as made:
        _priced(options, TENANT, cast("Any", Compared(served)))
    asked = {"EndpointName": served.model}
    operation = "InvokeEndpointWithResponseStream"
    return [*made, Call(key_id=OF_COMMAND, service="sagemaker", operation=operation, given=asked)]


@dataclass(frozen=True)
class Compared:
    served: Any
    manifest: None = None
    usd_per_hour: float | None = None


COMMANDS: Mapping[str, tuple[str, Callable[[Path], list[Call]], set[str]]] = {
    "aws resume": ("Operates", resume, {"StartExecution", "ListExecutions", "GetTemplate"}),
    "aws receipt verify --points": ("Operates", points, {"ListRecoveryPointsByBackupVault"}),
    "aws prove": ("Destroys", prove, {"ListStacks"}),
    "tenant revoke --deployed": ("Operates", revoke, {"PutParameter"}),
    "aws reindex": ("Upgrades", reindex, {"Invoke"}),
    "knowledge push": ("Publishes", push, {"AssumeRole"}),
    "models train": ("StartsJobs", train, {"ListObjectsV2", "PutObject", "ListServiceQuotas"}),
    "models try": (
        "StartsJobs",
        attempt,
        {"CreateSchedule", "DeleteSchedule", "DeleteEndpoint", "GetObject"},
    ),
    "models compile --promote": ("StartsJobs", promote, {"DescribeTrainingJob"}),
    "evaluate --model": ("StartsJobs", compare, {"DescribeModel", "InvokeEndpointWithResponseStream"}),
}
"""Command = its policy, how it is run, and calls that it makes. ``pause`` makes those of ``resume``."""


@pytest.fixture(scope="module")
def key(assembly: Path) -> Store:
    return data_key(assembly, TENANT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_policy_allows_each_call_of_a_command_and_none_for_a_neighbour(
    command: str, key: Store, tmp_path: Path
) -> None:
    policy, run, expected = COMMANDS[command]
    calls = [call for call in run(tmp_path) if call.key_id == OF_COMMAND]
    assert expected <= {call.operation for call in calls}
    policies = policies_of(OPERATOR, policy, tenant=TENANT, account=ACCOUNT)
    by_role = {"policies": policies, "tenant": TENANT, "account": ACCOUNT, "key": key}
    assert refused(calls, **by_role, is_tagged=policy not in UNTAGGED) == []


def test_a_policy_that_reaches_every_tenants_parameters_is_named(key: Store) -> None:
    given = {"Name": f"/assistant/{TENANT}/jwks", "Value": "{}"}
    call = Call(key_id=OF_COMMAND, service="ssm", operation="PutParameter", given=given)
    statement = {"Effect": "Allow", "Action": "ssm:PutParameter"}
    found = [
        refused([call], policies=(document,), tenant=TENANT, account=ACCOUNT, key=key)
        for path in ("/assistant/*", f"/assistant/{TENANT}/*")
        for document in [
            {
                "Version": "2012-10-17",
                "Statement": [{**statement, "Resource": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{path}"}],
            }
        ]
    ]
    parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/assistant/neighbour/jwks"
    assert found == [[f"ssm:PutParameter {parameter}: Allowed"], []]


def test_each_module_that_opens_an_account_has_a_test_of_its_calls() -> None:
    opening = {
        path.relative_to(ROOT / "assistant").as_posix()
        for path in (ROOT / "assistant").rglob("*.py")
        if re.search(r"\bDeployed\.(named|of)\(|\bAwsAccount\(", path.read_text(encoding="utf-8"))
    }
    assert opening == ASKED_IN.keys()
    for tests in ASKED_IN.values():
        for test in tests:
            assert "refused(" in (Path(__file__).parent / test).read_text(encoding="utf-8")
