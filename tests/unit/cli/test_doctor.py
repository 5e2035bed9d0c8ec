"""``assistant aws doctor``: what each check of an account, a registry and an issuer says, and how it ends."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from assistant.answer.services import AnswerWriter
from assistant.cli.aws.doctor import (
    DeploymentChecks,
    checked,
    token_findings,
    tools,
    unreviewed,
    writer_findings,
)
from assistant.domain.clock import Deadline
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.evaluation.check_pairs import load_check_pairs
from assistant.models.artifacts import CharacterTokenCounter, ServedModel, unknown_model
from assistant.stores.ports import GenerationDelta, GenerationRequest
from assistant.tenant.deployment import IdentitySection
from assistant.tenant.manifests import WRITER, CheckCounts
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.account import AccountChecks, AwsAccount, Deployed, Finding
from assistant.terminal.publishing import images_of, model_files
from tests.stage.tokens import EC_KEY, RSA_KEY, claims, token
from tests.unit.cli.conftest import PlannedCalls

pytestmark = pytest.mark.usefixtures("emulated_aws")
ROOT = Path(__file__).parents[3]
FILE = ROOT / "tests/tenants/pharmacy.toml"
ACCOUNT, REGION = "123456789012", "us-east-1"
VERSION = "/cdk-bootstrap/hnb659fds/version"
ASSETS = f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}"
REPOSITORY = "private-care-assistant/orchestrator"
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)  # pyright: ignore[reportCallIssue, reportArgumentType]


def found(
    name: str,
    folder: Path,
    *,
    image: str = "",
    tenant: TenantConfig | None = None,
    issuer: Mapping[str, Any] | DeploymentError | None = None,
) -> list[Finding]:
    """Return what one check says of a tenant whose templates name one image."""

    def configuration(_: str) -> Mapping[str, Any]:
        if isinstance(issuer, DeploymentError):
            raise issuer
        return issuer or {}

    tenant = tenant or load_tenant(FILE)
    assert tenant.deployment is not None
    artifacts = {"Pharmacy": {"properties": {"requiresBootstrapStackVersion": 6}}, "Tree": {}}
    (folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    account = AccountChecks(
        aws=AwsAccount(account=ACCOUNT, region=REGION),
        tenant=tenant,
        place=tenant.deployment,
        tenant_file=FILE,
        templates={"Orchestrator": {"Resources": {"Task": {"Type": "T", "Properties": {"Image": image}}}}},
    )
    checks = DeploymentChecks(
        account=account,
        stage=folder,
        root=ROOT,
        configuration_of=configuration,
    )
    return list(checked(name, checks.checks()[name]))


def one(found: list[Finding]) -> tuple[str, str]:
    (finding,) = found
    return finding.kind, finding.said


class Verdicts:
    """An option whose model names the first ``named`` planted errors and marks nothing."""

    def __init__(self, named: int, model: ServedModel) -> None:
        sentences = [each for one in load_check_pairs().answers for each in one.sentences]
        self._named = [each.text for each in sentences if each.planted][:named]
        self._model, self.calls = model, 0

    async def deployed_writer(self, tenant: TenantConfig, stack: AsyncExitStack) -> AnswerWriter:
        assert tenant.deployment is not None
        return AnswerWriter(self, self._model, CharacterTokenCounter())

    @asynccontextmanager
    async def stream(self, request: GenerationRequest, *, deadline: Deadline) -> AsyncGenerator[Any]:
        del deadline
        self.calls += 1
        lines = request.messages[-1].content.partition("<sentences>\n")[2].splitlines()[:-1]
        told = ["opposite" if any(text in line for text in self._named) else "held" for line in lines]
        verdicts = [{"n": n, "line": 1, "words": "", "verdict": each} for n, each in enumerate(told, 1)]

        async def deltas() -> AsyncIterator[GenerationDelta]:
            yield GenerationDelta(json.dumps({"sentences": verdicts}), "stop")

        yield deltas()


BELIEVED = CheckCounts(named=36, planted=40, marked=2, true_pairs=40)
NUMBERS = r"sentence_check = \{ named = 37, planted = 40, marked = 0, true_pairs = 40 \}"


@pytest.mark.parametrize(
    ("named", "written", "calls", "said"),
    [
        (37, None, 10, rf"names 37 of 40 planted errors, marks 0 of 40 true .*\[bedrock\].*{NUMBERS}"),
        (35, None, 10, r"names 35 of 40 .*The page says \*not checked\* of what it writes"),
        (0, None, 10, "not asked: the model gave no verdict"),
        (37, BELIEVED, 0, "^$"),
    ],
)
def test_the_deployed_model_checks_pairs_until_its_numbers_are_written_down(
    monkeypatch: pytest.MonkeyPatch, *, named: int, written: CheckCounts | None, calls: int, said: str
) -> None:
    tenant = load_tenant(FILE)
    generation = tenant.generation.model_copy(update={"context_tokens": 4096})
    tenant = tenant.model_copy(update={"models": None, "generation": generation})
    model = Verdicts(named, unknown_model("m", WRITER.model_copy(update={"sentence_check": written})))
    monkeypatch.setitem(writer_findings.__globals__, "installed", lambda: (model,))

    deployed = Deployed.of(tenant, FILE)
    finding = one(list(checked("sentence check", lambda: writer_findings(deployed, root=ROOT))))

    assert model.calls == calls
    assert re.search(said, finding[1])
    assert finding[0] == ("pass" if written else "warn" if named else "unknown")


def test_an_endpoint_that_does_not_run_is_asked_later() -> None:
    deployed = Deployed.of(load_tenant(FILE), FILE)

    kind, said = one(list(writer_findings(deployed, root=ROOT)))

    assert (kind, said.rpartition(": ")[2]) == ("warn", "assistant aws doctor --tenant pharmacy")


@pytest.mark.parametrize(("is_declared", "kind"), [(False, "fail"), (True, "pass")])
def test_a_bootstrap_bucket_under_the_company_s_key_needs_that_key_in_the_tenant_file(
    tmp_path: Path, *, is_declared: bool, kind: str
) -> None:
    key = client("kms").create_key()["KeyMetadata"]
    client("ssm").put_parameter(Name=VERSION, Value="6", Type="String")
    client("s3").create_bucket(Bucket=ASSETS)
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["KeyId"]}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    client("s3").put_bucket_encryption(Bucket=ASSETS, ServerSideEncryptionConfiguration=rules)
    tenant = load_tenant(FILE)
    assert tenant.deployment is not None
    place = tenant.deployment.model_copy(update={"bootstrap_key": key["Arn"] if is_declared else None})
    told, said = one(found("bootstrap", tmp_path, tenant=tenant.model_copy(update={"deployment": place})))
    assert told == kind
    assert (f'write bootstrap_key = "{key["Arn"]}" into [deployment]' in said) == (kind == "fail")


# --- signatures of images ---------------------------------------------------------------------------------
COSIGN = """#!/bin/sh
echo "$@" >> "$COSIGN_LOG"
cat "$DOCKER_CONFIG/config.json" >> "$COSIGN_LOG"
"""
SIGNED = f"{HOST}/{REPOSITORY}@sha256:{'d' * 64}"
OF_AWS = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/vllm@sha256:{'e' * 64}"


@pytest.fixture
def cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a ``cosign`` that only notes what it is asked."""
    command = tmp_path / "bin" / "cosign"
    command.parent.mkdir()
    command.write_text(COSIGN)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COSIGN_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def with_key(key: str = "images.pub") -> TenantConfig:
    tenant = load_tenant(FILE)
    assert tenant.deployment is not None
    return tenant.model_copy(update={"deployment": tenant.deployment.model_copy(update={"image_key": key})})


def test_without_a_key_the_check_says_that_no_signature_is_verified(tmp_path: Path) -> None:
    kind, said = one(found("image signatures", tmp_path, image=SIGNED))
    assert (kind, "declare deployment.image_key" in said) == ("warn", True)


@pytest.mark.parametrize(
    ("key", "given"),
    [("images.pub", f"{FILE.parent}/images.pub"), ("awskms:///alias/images", "awskms:///alias/images")],
)
def test_an_image_is_verified_by_digest_and_key_with_the_registrys_login(
    tmp_path: Path, cosign: Path, key: str, given: str
) -> None:
    assert one(found("image signatures", tmp_path, image=SIGNED, tenant=with_key(key))) == ("pass", "")
    command, login = cosign.read_text().splitlines()
    assert command == f"verify --insecure-ignore-tlog=true --key {given} {SIGNED}"
    assert json.loads(login)["auths"].keys() == {HOST}


def test_an_image_of_aws_is_not_asked_for_our_signature(tmp_path: Path, cosign: Path) -> None:
    assert one(found("image signatures", tmp_path, image=OF_AWS, tenant=with_key())) == ("pass", "")
    assert not cosign.exists()


def test_a_machine_without_cosign_fails_where_a_key_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    kind, said = one(found("image signatures", tmp_path, image=SIGNED, tenant=with_key()))
    assert (kind, "no cosign on this machine" in said) == ("fail", True)


def test_a_registry_that_gives_no_login_fails_where_a_key_is_declared(
    tmp_path: Path, cosign: Path, planned_calls: PlannedCalls
) -> None:
    planned_calls.refused["GetAuthorizationToken"] = "AccessDeniedException"
    kind, said = one(found("image signatures", tmp_path, image=SIGNED, tenant=with_key()))
    assert (kind, "no signature of an image can be verified: ecr refused" in said) == ("fail", True)
    assert not cosign.exists()


def test_the_images_of_templates_are_found_however_they_are_written() -> None:
    joined = {"Fn::Join": ["", ["1.dkr.ecr.us-east-1.", {"Ref": "AWS::URLSuffix"}, "/care@sha256:1"]]}
    task = {"ContainerDefinitions": [{"Image": joined}, {"Image": "public.example/tool:v1"}]}
    function = {"Code": {"ImageUri": "own.example/mover@sha256:2"}}
    resources = {"Task": {"Properties": task}, "Function": {"Properties": function}}
    named = images_of({"Stack": {"Resources": resources}}, url_suffix="amazonaws.com.cn")
    assert named == [
        "1.dkr.ecr.us-east-1.amazonaws.com.cn/care@sha256:1",
        "own.example/mover@sha256:2",
        "public.example/tool:v1",
    ]


def test_an_issuer_without_our_claims_warns_and_one_that_cannot_be_asked_is_unknown(tmp_path: Path) -> None:
    assert (
        one(found("issuer", tmp_path, issuer={"claims_supported": ["sub", "tenant"]}))[1].count("roles") == 1
    )
    both: dict[str, Any] = {"claims_supported": ["tenant", "roles", "sub"]}
    assert one(found("issuer", tmp_path, issuer=both)) == ("pass", "")
    kind, said = one(found("issuer", tmp_path, issuer=DeploymentError("it cannot be read")))
    assert (kind, said) == ("unknown", "not asked: it cannot be read")


def test_each_model_file_is_looked_for_and_before_the_bucket_is_made_nothing_is_known(tmp_path: Path) -> None:
    assert one(found("model artifacts", tmp_path))[0] == "unknown"
    models = load_tenant(FILE).models
    assert models is not None
    output = {"ModelsBucketName": {"Value": "models"}}
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": output}
    client("cloudformation").create_stack(
        StackName="assistant-pharmacy-Data", TemplateBody=json.dumps(template)
    )
    client("s3").create_bucket(Bucket="models")
    wanted = model_files(models, folder=ROOT / "model_artifacts")
    assert {each.kind for each in found("model artifacts", tmp_path)} == {"fail"}
    for each in wanted:
        for name in each.files:
            client("s3").put_object(Bucket="models", Key=f"{each.prefix}{name}", Body=b"x")
    assert one(found("model artifacts", tmp_path)) == ("pass", "")
    lost = f"{wanted[0].prefix}{wanted[0].files[0]}"
    client("s3").put_object(Bucket="models", Key=lost, Body=b"")
    assert f"lacks {wanted[0].files[0]}. Run: " in one(found("model artifacts", tmp_path))[1]


def test_a_driver_that_nobody_has_shown_with_its_sdk_warns(tmp_path: Path) -> None:
    kind, said = one(found("driver", tmp_path))
    assert kind == "warn"
    assert "Neuron driver (2.19) is older" in said
    tenant = load_tenant(FILE)
    assert tenant.models is not None
    cpu = tenant.models.model_copy(update={"llm": "smollm2-135m-cpu"})
    assert one(found("driver", tmp_path, tenant=tenant.model_copy(update={"models": cpu})))[0] == "pass"


def test_what_may_not_be_asked_is_never_a_pass() -> None:
    def denied() -> list[Finding]:
        raise DeploymentError("AccessDenied")

    assert [each.kind for each in checked("zones", denied)] == ["unknown"]
    assert [each.kind for each in checked("templates", denied, otherwise="fail")] == ["fail"]


def test_a_hipaa_tenant_that_shares_its_bootstrap_with_one_that_nobody_reviews_fails() -> None:
    pharmacy, sandbox = (load_tenant(FILE.with_name(f"{name}.toml")) for name in ("pharmacy", "sandbox"))
    assert pharmacy.deployment is not None
    assert sandbox.deployment is not None
    (finding,) = unreviewed(pharmacy.deployment, [pharmacy, sandbox])
    assert (finding.kind, "sandbox shares this tenant's account" in finding.said) == ("fail", True)
    elsewhere = pharmacy.deployment.model_copy(update={"account": "999988887777"})
    for place in (sandbox.deployment, elsewhere):
        assert list(unreviewed(place, [pharmacy, sandbox])) == []


def test_a_bootstrap_of_its_own_is_to_be_looked_at() -> None:
    pharmacy, sandbox = (load_tenant(FILE.with_name(f"{name}.toml")) for name in ("pharmacy", "sandbox"))
    assert pharmacy.deployment is not None
    apart = pharmacy.deployment.model_copy(update={"bootstrap_qualifier": "pharmacy"})
    (finding,) = unreviewed(apart, [pharmacy, sandbox])
    assert finding.kind == "warn"
    assert "cdk-hnb659fds-cfn-exec-role-" in finding.said


def test_a_folder_without_the_cdk_fails_with_the_command(tmp_path: Path) -> None:
    said = [each.said for each in tools(tmp_path) if each.kind == "fail"]
    assert said == [f"{tmp_path} has no CDK. In a clone of the repository run: make setup"]


def seen(bearer: str, *, keys: str | DeploymentError | None = None) -> dict[str, str]:
    """Return the findings of claims that are not right, and of the signature."""

    def published(_: str) -> str:
        if isinstance(keys, DeploymentError):
            raise keys
        key = EC_KEY.as_dict(private=False) | {"kid": "ec"}
        return keys or json.dumps({"keys": [key]})

    findings = token_findings(bearer, tenant=load_tenant(FILE), keys_of=published)
    return {each.check: f"{each.kind}: {each.said}" for each in findings if each.kind != "pass"}


def issued(**changes: Any) -> str:
    return token(
        claims(datetime.now(UTC), **{"iss": load_identity().issuer, "tenant": "pharmacy", **changes})
    )


def load_identity() -> IdentitySection:
    identity = load_tenant(FILE).identity
    assert identity is not None
    return identity


def test_a_token_that_is_taken_passes_and_each_wrong_claim_is_named_at_once() -> None:
    assert seen(issued(aud=["other", "assistant"])) == {}
    wrong = seen(issued(aud="other", tenant=None, roles=["doctor"]))
    assert wrong.keys() == {"aud", "tenant", "roles", "signature"}
    assert wrong["aud"] == 'fail: must hold assistant; it is "other"'
    assert wrong["tenant"] == "fail: must be pharmacy; there is none"
    assert "one of agent" in wrong["roles"]
    assert "claim aud" in wrong["signature"] or "claim tenant" in wrong["signature"]


def test_an_expired_token_and_one_of_another_key_fail_and_keys_out_of_reach_are_unknown() -> None:
    expired = seen(issued(exp=1))
    assert "It is expired, or not signed" in expired["signature"]
    other = token(claims(datetime.now(UTC), iss=load_identity().issuer, tenant="pharmacy"), key=RSA_KEY)
    assert seen(other)["signature"].startswith("fail: ")
    unreachable = seen(issued(), keys=DeploymentError("it cannot be read"))
    assert unreachable == {"signature": unreachable["signature"]}
    assert unreachable["signature"].startswith("unknown: not asked: ")


@pytest.mark.parametrize("text", ["", "garbage", "a.b.c", "bm8.bm8.bm8"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no signed token"):
        seen(text)
