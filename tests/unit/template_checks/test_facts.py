from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.tenant_templates import facts_of
from assistant.domain.errors import ConfigurationError
from template_checks import InvalidInputError
from template_checks.facts import ArtifactFact, Facts, ImageFact, load_facts

ROOT = Path(__file__).parents[3]


def test_facts_written_are_read_back_the_same(tmp_path: Path) -> None:
    facts = Facts(
        region="eu-west-1",
        consumer_cidrs=("10.0.0.0/8", "10.1.0.0/16"),
        answer_deadline_s=90.5,
        private_dns_verified=True,
        certificates={"arn:aws:acm:x": ("a.example", "*.b.example")},
        parameters={"Odd name": 'with "quotes"'},
        images=(ImageFact(repository="a/b", accounts={"eu-west-1": "111122223333"}, architecture="ARM64"),),
        artifacts=(ArtifactFact(name="llm", uri="llm/1/", batch_size=4),),
    )
    path = tmp_path / "facts.toml"
    path.write_text(facts.as_toml(), encoding="utf-8")
    assert load_facts(path) == facts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("consumers = []", "consumers"),
        ('consumer_cidrs = ["10.0.0.1/8"]', "consumer_cidrs.0"),
        ("answer_deadline_s = 0", "answer_deadline_s"),
        ('region = "a"\nregion = "b"', "not valid TOML"),
    ],
)
def test_a_wrong_facts_file_is_refused_with_its_key(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "facts.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=said) as raised:
        load_facts(path)
    assert str(path) in raised.value.message


def test_facts_of_a_tenant_are_what_its_file_lock_and_manifest_say() -> None:
    facts = facts_of(ROOT / "tenants" / "pharmacy.toml", root=ROOT)
    assert facts.consumer_cidrs == ("10.32.0.0/16",)
    assert facts.host_names == ("assistant.pharmacy.example.com",)
    artifact, embedding = facts.artifacts
    assert (artifact.name, artifact.batch_size, artifact.tensor_parallel) == ("qwen3-8b-inf2", 8, 2)
    assert (
        embedding.uri
        == f"/{embedding.name}/53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db/"
    )
    tables = {image.repository: image.accounts for image in facts.images}
    assert tables["huggingface-vllm-inference-neuronx"]["us-east-1"] == "763104351884"


def test_a_tenant_that_is_only_served_locally_has_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "bakery.toml"
    path.write_text('schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"\[deployment\]"):
        facts_of(path, root=ROOT)
