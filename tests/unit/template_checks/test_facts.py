from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.aws.templates import facts_of
from assistant.domain.errors import ConfigurationError
from template_checks import InvalidInputError
from template_checks.facts import load_intended_paths

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("content", ["client = 1", 'clients = "a"\nclients = "b"', "clients = 1"])
def test_a_wrong_file_of_intended_paths_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "intended.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"intended\.toml: not a file of intended paths"):
        load_intended_paths(path)


def test_facts_of_a_tenant_are_what_its_file_lock_and_manifest_say() -> None:
    facts = facts_of(ROOT / "tests/tenants/pharmacy.toml", root=ROOT)
    assert facts.consumer_cidrs == ("10.32.0.0/16",)
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


def test_an_image_has_the_architecture_that_it_is_published_for() -> None:
    """Tasks of the company are ARM64; the functions' image and the model server never are."""
    facts = facts_of(ROOT / "tests/company/tenants/company.toml", root=ROOT)
    built = {image.repository.rpartition("/")[2]: image.architecture for image in facts.images}
    assert (built["orchestrator"], built["learning"], built["model-server"]) == ("ARM64", "X86_64", "X86_64")
