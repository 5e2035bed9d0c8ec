"""``jumpstart.lock.toml``, and the parser of JumpStart's manifest and specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.options.models_lab.jumpstart import (
    LOCK_FILE,
    Facts,
    Listed,
    Specification,
    listing_sha256,
    load_candidates,
    newest,
    write_facts,
)
from assistant.tenant.manifests import instance_named
from assistant.tenant.prices import load_prices
from tests.fakes.jumpstart import FILES, LOCK, MODEL, REGISTRY, manifest, specification

ROOT = Path(__file__).parents[3]
OBJECTS = [Listed(key=name, size_bytes=len(body), etag=name) for name, body in FILES.items()]


def facts(instance: str | None = None, region: str = "us-east-1", **changed: Any) -> Facts:
    spec = Specification(specification(**changed), region=region, instance=instance)
    return spec.facts(OBJECTS, FILES["config.json"])


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / LOCK_FILE
    path.write_text(LOCK)
    return path


def resolve(lock: Path, **changed: Any) -> None:
    write_facts(lock, {MODEL: facts(**changed)})


def test_the_shipped_lock_has_two_embedders_and_six_llms_all_of_them_published() -> None:
    rows = load_candidates(ROOT / LOCK_FILE).candidate

    assert [row.task for row in rows].count("embedding") == 2
    assert [row.task for row in rows].count("llm") == 6
    assert {row.state for row in rows} == {"published"}
    for row in rows:
        assert row.published is not None
        instance_named(row.published.instance)
        assert row.published.instance in load_prices().endpoint


def test_the_newest_version_counts_by_numbers_and_a_deprecated_one_does_not() -> None:
    assert newest(manifest("1.9.0", "1.10.0", "2.0.0", deprecated="2.0.0"), MODEL).version == "1.10.0"


def test_an_id_that_jumpstart_does_not_offer_is_refused() -> None:
    with pytest.raises(NotFoundError, match="unknown: JumpStart does not offer this id"):
        newest(manifest("1.0.0"), "unknown")


@pytest.mark.parametrize("body", [b"<html>", b'[{"model_id": "a"}]'])
def test_a_manifest_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not as JumpStart writes it"):
        newest(body, MODEL)


def test_facts_follow_from_the_instance_and_its_family() -> None:
    read = facts()

    assert read.instance == "ml.g5.2xlarge"
    assert read.image == f"{REGISTRY}/djl-inference:0.34.0-lmi16.0.0-cu128"
    assert read.environment == {"HF_MODEL_ID": "/opt/ml/model", "WORKERS": "2"}
    assert read.accelerators == 1
    assert facts("ml.g6e.2xlarge").environment["WORKERS"] == "1"


def test_the_prepacked_artifact_goes_first_and_its_listing_is_hashed() -> None:
    read = facts()

    prefix = f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/"
    assert read.artifact == f"s3://jumpstart-cache-prod-us-east-1/{prefix}"
    assert read.files == ("config.json", "model.safetensors", "tokenizer.json")
    assert read.weights_bytes == 2048
    assert read.listing_sha256 == listing_sha256(list(reversed(OBJECTS)))
    assert read.listing_sha256 != listing_sha256([*OBJECTS[:2], OBJECTS[2].model_copy(update={"etag": "x"})])


def test_the_architecture_is_that_of_config_json() -> None:
    read = facts().architecture

    assert (read.layers, read.kv_heads, read.head_size, read.dtype) == (4, 2, 8, "bfloat16")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"license": None}, "not complete: license"),
        ({"gated_bucket": True}, "gated bucket"),
        ({"deprecated": True}, "deprecated or vulnerable"),
        ({"hosting_eula_key": "eula/example.txt"}, "asks for the acceptance of eula/example.txt"),
        ({"instance": "ml.c7i.large"}, "does not run on ml.c7i.large; write one of these"),
        ({"hosting_artifact_compression_type": "Gzip"}, "one packed file"),
        ({"region": "eu-west-1"}, "on ml.g5.2xlarge in eu-west-1 its facts are not complete: image"),
        ({"inference_configs": {}}, "not as JumpStart writes them"),
    ],
)
def test_a_specification_that_cannot_be_deployed_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        facts(**changed)


def test_an_artifact_without_weights_is_refused() -> None:
    spec = Specification(specification(), region="us-east-1", instance=None)
    with pytest.raises(ConfigurationError, match="weights_bytes"):
        spec.facts(OBJECTS[:1], b"{}")


# the lock


def test_facts_are_written_into_their_row_and_comments_stay(lock: Path) -> None:
    resolve(lock)

    row, found = load_candidates(lock).usable(MODEL)
    assert row.state == "resolved"
    assert found == facts()
    text = lock.read_text()
    assert "# a comment of ours" in text
    assert "# why it is here" in text
    assert load_candidates(lock).row("example-not-offered").state == "unresolved"


def test_an_unknown_id_is_refused_with_the_known_ones(lock: Path) -> None:
    with pytest.raises(NotFoundError, match=f"no candidate other; it has {MODEL}, example-not-offered"):
        load_candidates(lock).usable("other")


def test_a_licence_that_is_not_allowed_is_refused(lock: Path) -> None:
    resolve(lock, license="Research only")
    for deployed in (load_candidates(lock).usable, load_candidates(lock).adoptable):
        with pytest.raises(ConfigurationError, match='its licence is "Research only"'):
            deployed(MODEL)
