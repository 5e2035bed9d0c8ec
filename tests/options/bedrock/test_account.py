"""What the doctor asks of an account, what a question costs there, and what a receipt says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.loaders import create_loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from assistant.documents.withdraw import WithdrawalReceipts
from assistant.domain.errors import ConfigurationError
from assistant.options.bedrock.account import checks
from assistant.options.bedrock.models import uses
from assistant.options.bedrock.section import BedrockSection, contradictions
from assistant.tenant.prices import load_prices
from assistant.tenant.tenant import TenantConfig, load_tenant
from assistant.terminal.account import AccountChecks
from tests.stacks.synthesized import ROOT

FILE = ROOT / "tests/company/tenants/scribe.toml"
SERVICE = ServiceModel(create_loader().load_service_model("bedrock", "service-2"))
REGIONS = ("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3")
ARN = "arn:aws:bedrock:{}::foundation-model/amazon.nova-lite-v1:0"
QUOTA = "Cross-region model inference requests per minute for Nova Lite"
WELL: Mapping[str, Any] = {
    "get_foundation_model": {
        "modelDetails": {
            "modelArn": ARN.format("eu-central-1"),
            "modelId": "amazon.nova-lite-v1:0",
            "modelName": "Nova Lite",
            "responseStreamingSupported": True,
            "inferenceTypesSupported": ["INFERENCE_PROFILE"],
            "modelLifecycle": {"status": "ACTIVE"},
        }
    },
    "get_foundation_model_availability": {
        "modelId": "amazon.nova-lite-v1:0",
        "agreementAvailability": {"status": "AVAILABLE"},
        "authorizationStatus": "AUTHORIZED",
        "entitlementAvailability": "AVAILABLE",
        "regionAvailability": "AVAILABLE",
    },
    "get_inference_profile": {"models": [{"modelArn": ARN.format(region)} for region in REGIONS]},
    "get_model_invocation_logging_configuration": {},
    "get_account_data_retention": {"mode": "none"},
}


@dataclass
class Account:
    """Answers as Bedrock describes it; what is asked must be what it takes."""

    answers: Mapping[str, Any]
    quota: float = 500.0
    region: str = "eu-central-1"
    asked: list[str] = field(default_factory=list[str])

    def call(self, service: str, call: str, *, missing: Any = (), **given: Any) -> Any:
        assert (service, bool(missing)) == ("bedrock", True)
        operation = SERVICE.operation_model("".join(part.capitalize() for part in call.split("_")))
        if operation.input_shape is not None:
            report = ParamValidator().validate(given, operation.input_shape)
            assert not report.has_errors(), report.generate_report()
        answer = self.answers[call]
        known = cast("Any", operation.output_shape).members
        assert answer is None or answer.keys() <= known.keys()
        self.asked.append(call)
        return answer

    def listed(self, _service: str, _call: str, _key: str, **_: Any) -> list[Mapping[str, Any]]:
        return [{"QuotaName": QUOTA, "QuotaCode": "L-1", "Value": self.quota}]


def found(
    answers: Mapping[str, Any] | None = None, *, quota: float = 500.0, profile: str = "hipaa"
) -> list[str]:
    tenant = load_tenant(FILE)
    assert tenant.deployment
    place = tenant.deployment.model_copy(update={"profile": profile})
    aws: Any = Account({**WELL, **(answers or {})}, quota=quota)
    account = AccountChecks(aws=aws, tenant=tenant, place=place, tenant_file=FILE, templates={})
    return [f"{name}: {one.kind}: {one.said}" for name, ask in checks(account).items() for one in ask()]


def test_an_account_that_is_ready_passes_all() -> None:
    assert found() == []


DETAILS = WELL["get_foundation_model"]["modelDetails"]
AVAILABLE = WELL["get_foundation_model_availability"]


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        (
            "get_foundation_model",
            {"modelDetails": {**DETAILS, "responseStreamingSupported": False}},
            "not stream",
        ),
        (
            "get_foundation_model",
            {"modelDetails": {**DETAILS, "modelLifecycle": {"status": "LEGACY"}}},
            "is LEGACY",
        ),
        (
            "get_foundation_model_availability",
            {**AVAILABLE, "agreementAvailability": {"status": "NOT_AVAILABLE"}},
            "create-foundation-model-agreement",
        ),
        (
            "get_foundation_model_availability",
            {**AVAILABLE, "authorizationStatus": "NOT_AUTHORIZED"},
            "authorizationStatus NOT_AUTHORIZED",
        ),
        ("get_inference_profile", None, "there is no inference profile eu.amazon"),
        (
            "get_inference_profile",
            {"models": [{"modelArn": ARN.format("eu-south-1")}]},
            'regions = ["eu-south-1"]',
        ),
        (
            "get_inference_profile",
            {"models": [{"modelArn": ARN.format(region).replace("lite", "pro")} for region in REGIONS]},
            "leads to foundation-model/amazon.nova-pro-v1:0",
        ),
        (
            "get_model_invocation_logging_configuration",
            {"loggingConfig": {"textDataDeliveryEnabled": True}},
            "delete-model-invocation-logging-configuration",
        ),
        ("get_account_data_retention", {"mode": "inherit"}, "put-account-data-retention --mode none"),
    ],
)
def test_what_is_not_ready_is_named_with_what_to_do(call: str, answer: Any, said: str) -> None:
    (finding,) = found({call: answer})
    assert said in finding
    assert (": warn: " if "LEGACY" in said else ": fail: ") in finding


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("get_model_invocation_logging_configuration", {"loggingConfig": {"textDataDeliveryEnabled": True}}),
        ("get_account_data_retention", {"mode": "provider_data_share"}),
    ],
)
def test_other_profiles_are_warned(call: str, answer: Any) -> None:
    (finding,) = found({call: answer}, profile="standard")
    assert ": warn: " in finding


def test_a_low_quota_is_named() -> None:
    (finding,) = found(quota=1)
    assert QUOTA in finding


def test_a_written_answer_is_paid_by_token() -> None:
    prices, tenant = load_prices(), load_tenant(FILE)
    regional = prices.of_tenant(tenant)
    added = [use for use in regional.use if use not in prices.use]
    more = regional.model_copy(update={"use": added}).usd_of_use(written=True)
    assert more == pytest.approx((11_546 * 0.078 + 583 * 0.312) / 1e6)  # of Frankfurt, where it is deployed
    local = tenant.model_copy(update={"deployment": None})
    more = prices.of_tenant(local).usd_of_use(written=True) - prices.usd_of_use(written=True)
    assert more == pytest.approx((11_546 * 0.06 + 583 * 0.24) / 1e6)
    assert prices.of_tenant(load_tenant(ROOT / "tests/tenants/clinic.toml")).use == prices.use


def test_a_model_without_a_price_is_refused_with_what_to_do() -> None:
    tenant = load_tenant(FILE)
    other = tenant.generation.model_copy(update={"model": "acme.writer-v1:0"})
    with pytest.raises(ConfigurationError, match=r"no \[\[price\]\] of acme.writer-v1:0; add it"):
        uses(tenant.model_copy(update={"generation": other}), load_prices().load)


@pytest.mark.parametrize(("file", "is_there"), [(FILE, True), (ROOT / "tests/tenants/clinic.toml", False)])
def test_a_receipt_says_what_may_remain_there(file: Path, is_there: bool) -> None:
    unused: Any = None
    tenant: TenantConfig = load_tenant(file)
    receipts = WithdrawalReceipts(
        tenant=tenant, documents=unused, versions=unused, stores=unused, on_aws=True, clock=unused
    )
    remaining = receipts._unasked_places(datetime.now(UTC))
    assert ("bedrock" in [place.place for place in remaining]) is is_there


TEXT = (ROOT / "tests/company/tenants/scribe.toml").read_text()


def tenant(folder: Path, *changes: tuple[str, str]) -> TenantConfig:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "scribe.toml"
    file.write_text(text)
    return load_tenant(file)


def said(config: TenantConfig) -> list[str]:
    return [f"{one.key}: {one.said}" for one in contradictions(config)]


def test_the_model_of_records_is_bedrock_s(tmp_path: Path) -> None:
    config = tenant(tmp_path)
    bedrock = BedrockSection.of(config)
    assert bedrock is not None
    assert config.generation.model == "eu.amazon.nova-lite-v1:0"
    assert bedrock.model_id == "amazon.nova-lite-v1:0"
    assert said(config) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[generation]\n", '[generation]\nmodel = "x"\n', r'model = "x" is another than bedrock'),
        ('model = "eu.', 'model = "global.', "a global profile may read prompts in any region"),
        ('model = "eu.amazon.nova-lite-v1:0"\n', "", "bedrock.model is needed"),
        ('model = "eu.', 'model = "EU.', "bedrock.model"),
    ],
)
def test_a_key_that_means_nothing_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tenant(tmp_path, (old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("context_tokens = 16384\n", "", "generation.context_tokens: is not given"),
        ("[models]\n", '[models]\nllm = "qwen3-8b-inf2"\n', "models.llm: no LLM endpoint is made"),
        ('"eu-central-1", "eu-north-1"', '"eu-north-1"', "bedrock.regions: eu-central-1"),
        ("eu.amazon.nova-lite-v1:0", "eu.anthropic.claude-fable-5", "keeps prompts for 30 days"),
        ("eu.amazon.nova-lite-v1:0", "eu.openai.gpt-5-v1:0", "profile hipaa allows none"),
    ],
)
def test_a_deployment_refuses_what_contradicts(tmp_path: Path, old: str, new: str, message: str) -> None:
    (found,) = said(tenant(tmp_path, (old, new)))
    assert re.search(message, found)


def test_a_deployment_without_bedrock_needs_an_llm(tmp_path: Path) -> None:
    from assistant.tenant.deployment_checks import contradictions as of_core

    config = tenant(tmp_path, (TEXT[TEXT.index("[bedrock]") : TEXT.index("[deployment]")], ""))
    assert config.deployment
    assert config.edge
    assert config.models
    found = of_core(config, place=config.deployment, edge=config.edge, models=config.models)
    assert "models.llm" in [one.key for one in found]
