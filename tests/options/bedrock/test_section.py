"""``[bedrock]`` of a tenant file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.options.bedrock.section import BedrockSection, contradictions
from assistant.tenant.tenant import TenantConfig, load_tenant
from tests.stacks.synthesized import ROOT

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


def test_another_tenant_has_none_and_keeps_its_hash() -> None:
    config = load_tenant(ROOT / "tests/tenants/clinic.toml")
    assert BedrockSection.of(config) is None
    assert "bedrock" not in config.model_dump_json(exclude_none=True)


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


def test_a_model_that_keeps_nothing_is_allowed_under_hipaa(tmp_path: Path) -> None:
    assert said(tenant(tmp_path, ("eu.amazon.nova-lite-v1:0", "eu.openai.gpt-oss-120b-1:0"))) == []


def test_a_deployment_without_bedrock_needs_an_llm(tmp_path: Path) -> None:
    from assistant.tenant.deployment_checks import contradictions as of_core

    config = tenant(tmp_path, (TEXT[TEXT.index("[bedrock]") : TEXT.index("[deployment]")], ""))
    assert config.deployment
    assert config.edge
    assert config.models
    found = of_core(config, place=config.deployment, edge=config.edge, models=config.models)
    assert "models.llm" in [one.key for one in found]
