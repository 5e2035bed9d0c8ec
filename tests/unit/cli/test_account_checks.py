"""What a deployment asks its account before: zones, certificate, roles, functions at once, quotas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from assistant.cli.aws.doctor import checked
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import AccountChecks, AwsAccount, Finding
from tests.fakes.tenant_files import committed_tenant

ACCOUNT = "210987654321"
SYSTEM = "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b9c8d7e6f5a4b3"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d")
CERTIFICATE = {"DomainName": "assistant.pharmacy.northshop.net", "Status": "ISSUED"}
CARE_KEYS = "/assistant/pharmacy/care-jwks"
KEY = {"kty": "EC", "kid": "care", "crv": "P-256", "x": "x", "y": "y"}
KEY_SET = json.dumps({"keys": [KEY]})


@dataclass
class Account:
    """What one account would answer."""

    zones: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Endpoint service = its zones; services of AWS that are not named here are in all."""
    certificate: Mapping[str, Any] | None = field(default_factory=lambda: dict(CERTIFICATE))
    roles: tuple[str, ...] = ("artifact-publisher-pharmacy", "knowledge-owner-pharmacy")
    functions: int = 1000
    applied: Mapping[str, float] = field(default_factory=dict[str, float])
    """Quotas that were raised."""
    default: Mapping[str, float] = field(default_factory=dict[str, float])
    parameters: dict[str, str] = field(default_factory=lambda: {CARE_KEYS: KEY_SET})
    denied: frozenset[str] = frozenset()
    """Actions that the caller may not take."""
    asked: list[str] = field(default_factory=list[str])

    def call(self, _client: object, action: str, given: dict[str, Any]) -> dict[str, Any]:
        """Stand for ``_make_api_call`` of every client of boto3."""
        self.asked.append(action)
        if action in self.denied:
            raise refusal("AccessDeniedException", action)
        match action:
            case "DescribeVpcEndpointServices":
                (name,) = given["ServiceNames"]
                if not (zones := self.zones.get(name, () if "vpce-svc-" in name else ZONES)):
                    raise refusal("InvalidServiceName", action)
                return {"ServiceDetails": [{"ServiceName": name, "AvailabilityZones": [*zones]}]}
            case "DescribeCertificate":
                if self.certificate is None:
                    raise refusal("ResourceNotFoundException", action)
                return {"Certificate": self.certificate}
            case "GetParameter":
                if given["Name"] not in self.parameters:
                    raise refusal("ParameterNotFound", action)
                return {"Parameter": {"Name": given["Name"], "Value": self.parameters[given["Name"]]}}
            case "GetRole":
                if given["RoleName"] not in self.roles:
                    raise refusal("NoSuchEntity", action)
                return {"Role": {"RoleName": given["RoleName"]}}
            case "ListEndpoints":
                return {"Endpoints": []}
            case "GetAccountSettings":
                return {"AccountLimit": {"ConcurrentExecutions": self.functions}}
            case "ListServiceQuotas" | "ListAWSDefaultServiceQuotas":
                return self._quotas(self.applied if action == "ListServiceQuotas" else self.default, given)
            case _:
                raise AssertionError(action)

    def _quotas(self, quotas: Mapping[str, float], given: Mapping[str, Any]) -> dict[str, Any]:
        """A quota a page, so that pages are followed."""
        place = int(given.get("NextToken", 0))
        page = [
            {"QuotaName": name, "QuotaCode": f"L-{number}", "Value": value}
            for number, (name, value) in enumerate(quotas.items())
        ]
        more = {"NextToken": str(place + 1)} if place + 1 < len(page) else {}
        return {"Quotas": page[place : place + 1], **more}


def refusal(code: str, action: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, action)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    account = Account(zones={SYSTEM: ZONES})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "scripted")
    monkeypatch.setattr(BaseClient, "_make_api_call", lambda *call: account.call(*call))
    return account


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = committed_tenant("pharmacy").replace("111122223333", ACCOUNT)
    text = text.replace("example.com", "northshop.net").replace("vpce-svc-0123456789abcdef0", SYSTEM[-26:])
    (tmp_path / "pharmacy.toml").write_text(text)
    return tmp_path / "pharmacy.toml"


def endpoint(service: str, kind: str = "Interface") -> dict[str, Any]:
    return {
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {"ServiceName": service, "VpcEndpointType": kind},
    }


def variant(instance: str) -> dict[str, Any]:
    return {
        "Type": "AWS::SageMaker::EndpointConfig",
        "Properties": {"ProductionVariants": [{"InstanceType": instance}]},
    }


TEMPLATES: Mapping[str, Any] = {
    "Network": {
        "Resources": {
            "Kms": endpoint("com.amazonaws.us-east-1.kms"),
            "Runtime": endpoint("com.amazonaws.us-east-1.sagemaker.runtime"),
            "Orders": endpoint(SYSTEM),
            "S3": endpoint("com.amazonaws.us-east-1.s3", "Gateway"),
        }
    },
    "Models": {
        "Resources": {
            "Llm": variant("ml.inf2.8xlarge"),
            "Embedding": variant("ml.c7i.xlarge"),
            "Scaling": {
                "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
                "Properties": {"ServiceNamespace": "sagemaker", "MaxCapacity": 2},
            },
        }
    },
    "Ingestion": {
        "Resources": {
            "Source": {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {"ScalingConfig": {"MaximumConcurrency": 18}},
            }
        }
    },
}
ENOUGH = {
    "ml.inf2.8xlarge for endpoint usage": 3.0,
    "ml.c7i.xlarge for endpoint usage": 4.0,
    "ml.trn1.32xlarge for training job usage": 1.0,
}


def found(file: Path) -> list[Finding]:
    tenant = load_tenant(file)
    assert tenant.deployment is not None
    checks = AccountChecks(
        aws=AwsAccount(account=ACCOUNT, region="us-east-1"),
        tenant=tenant,
        place=tenant.deployment,
        tenant_file=file,
        templates=TEMPLATES,
    )
    named = checks.checks().items()
    return [each for name, check in named for each in checked(name, check) if each.kind != "pass"]


def refused(file: Path) -> str:
    """Return the one refusal."""
    (said,) = [finding.said for finding in found(file) if finding.kind == "fail"]
    return said


def remarks(file: Path) -> list[str]:
    return [finding.said for finding in found(file) if finding.kind != "fail"]


def test_an_account_that_has_all_of_it_is_asked_and_nothing_is_said(account: Account, file: Path) -> None:
    account.applied = ENOUGH
    assert found(file) == []
    assert account.asked.count("DescribeVpcEndpointServices") == 3  # no gateway is asked for


@pytest.mark.parametrize("service", ["com.amazonaws.us-east-1.sagemaker.runtime", SYSTEM])
def test_a_service_that_a_zone_lacks_is_named_with_the_zones_to_write(
    account: Account, file: Path, service: str
) -> None:
    account.zones[service] = ("us-east-1a", "us-east-1b", "us-east-1d")
    assert refused(file).endswith(
        f"deployment.zones: in this account {service} is not in us-east-1c. Every service is in these: "
        'zones = ["us-east-1a", "us-east-1b", "us-east-1d"]'
    )
    assert f"{file}: line " in refused(file)


def test_services_with_too_few_zones_together_are_said(account: Account, file: Path) -> None:
    account.zones |= {
        SYSTEM: ("us-east-1a", "us-east-1b"),
        "com.amazonaws.us-east-1.kms": ("us-east-1b", "us-east-1c"),
    }
    assert refused(file).endswith("All services together are in us-east-1b: another region.")


def test_a_system_that_does_not_let_the_account_in_is_named_by_its_line(account: Account, file: Path) -> None:
    account.zones = {}
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if SYSTEM in text)
    assert f"line {line}: reach.0.service_name: {SYSTEM} is not offered to this account" in refused(file)
    assert f"arn:aws:iam::{ACCOUNT}:root" in refused(file)


def test_a_service_that_the_region_lacks_is_named(account: Account, file: Path) -> None:
    account.zones["com.amazonaws.us-east-1.kms"] = ()
    assert "deployment.region: com.amazonaws.us-east-1.kms is not offered in us-east-1." in refused(file)


def test_a_certificate_that_waits_is_refused_with_its_record(account: Account, file: Path) -> None:
    record = {"Name": "_a.northshop.net.", "Type": "CNAME", "Value": "_b.acm-validations.aws."}
    account.certificate = CERTIFICATE | {
        "Status": "PENDING_VALIDATION",
        "DomainValidationOptions": [
            {"DomainName": "x", "ValidationStatus": "PENDING_VALIDATION", "ResourceRecord": record}
        ],
    }
    assert "edge.certificate_arn: it is PENDING_VALIDATION." in refused(file)
    assert "_a.northshop.net. CNAME _b.acm-validations.aws." in refused(file)


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (None, "there is no such certificate"),
        (CERTIFICATE | {"DomainName": "other.net"}, "it is for other.net, not assistant.pharmacy."),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(
    account: Account, file: Path, certificate: Mapping[str, Any] | None, said: str
) -> None:
    account.certificate = certificate
    assert f"edge.certificate_arn: {said}" in refused(file)


@pytest.mark.parametrize(
    "names",
    [{"DomainName": "*.pharmacy.northshop.net"}, {"SubjectAlternativeNames": [CERTIFICATE["DomainName"]]}],
)
def test_a_certificate_with_the_name_among_others_fits(
    account: Account, file: Path, names: dict[str, Any]
) -> None:
    account.applied = ENOUGH
    account.certificate = CERTIFICATE | {"DomainName": "x.net"} | names
    assert found(file) == []


def test_a_publisher_s_role_that_is_not_there_is_refused(account: Account, file: Path) -> None:
    account.roles = ()
    said = " ".join(finding.said for finding in found(file) if finding.kind == "fail")
    assert "deployment.artifact_publishers.0: there is no role artifact-publisher-pharmacy" in said
    assert "deployment.pushers.procedures.0: there is no role knowledge-owner-pharmacy" in said


def test_an_account_that_runs_few_functions_at_once_is_told(account: Account, file: Path) -> None:
    account.applied, account.functions = ENOUGH, 10
    (said,) = remarks(file)
    assert "runs 10 functions at once" in said
    assert "ask for 18" in said
    assert "--service-code lambda --quota-code L-B99A9384 --desired-value 1000" in said


def test_quotas_that_are_too_small_come_with_the_command_that_asks_for_more(
    account: Account, file: Path
) -> None:
    account.applied = {"ml.c7i.xlarge for endpoint usage": 3.0}
    account.default = {
        "ml.trn1.32xlarge for training job usage": 0.0,
        "ml.inf2.8xlarge for endpoint usage": 0.0,
    }
    inf2, job = remarks(file)
    assert inf2.startswith("quota ml.inf2.8xlarge for endpoint usage: 0, and 3 are wanted.")
    assert "--service-code sagemaker --quota-code L-1 --desired-value 3" in inf2
    assert "ml.trn1.32xlarge for training job usage: 0, and 1 are wanted (to compile qwen3-8b-inf2 on)" in job


def test_what_may_not_be_asked_is_a_remark_and_all_else_is_asked(account: Account, file: Path) -> None:
    account.denied = frozenset({"DescribeCertificate", "ListServiceQuotas"})
    account.functions = 10
    first, second, third = remarks(file)
    assert first.startswith("not asked: acm refused describe_certificate")
    assert "Lambda runs 10" in second
    assert third.startswith("not asked: service-quotas refused list_service_quotas")


# --- the care application's keys --------------------------------------------------------------------------
def test_a_missing_key_set_is_named_with_what_happens_and_the_command_that_puts_it(
    account: Account, file: Path
) -> None:
    account.applied = ENOUGH
    assert remarks(file) == []
    account.parameters = {}
    (said,) = remarks(file)
    assert said.startswith(
        f"The parameter {CARE_KEYS} is missing. Until it has one, each question that brings"
    )
    assert "refused with 503, and no answer shows a customer's live data" in said
    assert f"aws ssm put-parameter --name {CARE_KEYS} --type String" in said


@pytest.mark.parametrize("value", ["", "none", "[]", "{}", '{"keys": []}', '{"keys": {}}', '{"keys": ["x"]}'])
def test_a_parameter_that_is_no_key_set_is_said(account: Account, file: Path, value: str) -> None:
    account.applied, account.parameters = ENOUGH, {CARE_KEYS: value}
    (said,) = remarks(file)
    assert said.startswith(f"The parameter {CARE_KEYS} holds no key set.")


def test_a_private_key_in_the_key_set_is_refused(account: Account, file: Path) -> None:
    account.parameters = {CARE_KEYS: json.dumps({"keys": [KEY, KEY | {"d": "secret"}]})}
    said = refused(file)
    assert f"care_context: the parameter {CARE_KEYS} holds a private key" in said
    assert '"secret"' not in said


def test_a_parameter_of_another_name_is_asked_for(account: Account, file: Path) -> None:
    section = "[care_context]\n"
    file.write_text(file.read_text().replace(section, f'{section}jwks_parameter = "/care/keys"\n'))
    account.applied, account.parameters = ENOUGH, {"/care/keys": KEY_SET}
    assert found(file) == []


@pytest.mark.parametrize("plain", [True, False])
def test_nothing_is_asked_where_no_care_application_signs(account: Account, file: Path, plain: bool) -> None:
    text = file.read_text()
    section = text[text.index("[care_context]") : text.index("[embedding]")]
    dev = text.replace(section, f"{section.rstrip()}\nplain_ids = true\n\n")
    dev = dev.replace('profile = "hipaa"', 'profile = "dev"')
    file.write_text(dev if plain else text.replace(section, ""))
    account.applied, account.parameters = ENOUGH, {}
    assert [finding.said for finding in found(file) if CARE_KEYS in finding.said] == []
    assert "GetParameter" not in account.asked
