"""``jumpstart.lock.toml``, and the parser of JumpStart's manifest and specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.options.models_lab.jumpstart import (
    LOCK_FILE,
    Candidate,
    Facts,
    Listed,
    Published,
    Specification,
    listing_sha256,
    load_candidates,
    newest,
    published,
    read_published,
    refuse_unresolved,
    write_rows,
)
from assistant.tenant.manifests import instance_named
from assistant.tenant.prices import load_prices
from tests.fakes.jumpstart import FILES, LOCK, MODEL, REGISTRY, manifest, published_file, specification

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
    values = {"resolved": True, "facts": facts(**changed).model_dump(mode="json", exclude_none=True)}
    write_rows(lock, lock.read_bytes(), {MODEL: values})


def a_row(instance: str | None = None) -> Candidate:
    return Candidate(
        id=MODEL, task="llm", model="a/b", family="f", purpose="p", instance=instance, resolved=False
    )


def test_the_shipped_lock_has_two_embedders_and_six_llms_all_of_them_published() -> None:
    rows = load_candidates(ROOT / LOCK_FILE).candidate

    assert [row.task for row in rows].count("embedding") == 2
    assert [row.task for row in rows].count("llm") == 6
    assert {row.state for row in rows} == {"published"}
    for row in rows:
        assert row.published is not None
        instance_named(row.published.instance)
        assert row.published.instance in load_prices().endpoint


def test_a_published_file_says_image_artifact_and_environment_of_the_newest_version() -> None:
    said = published(read_published(published_file("1.9.0", "1.10.0")), a_row(), region="us-east-1")

    assert said == Published(
        region="us-east-1",
        version="1.10.0",
        image=f"{REGISTRY}/example-llm:1.0",
        artifact=f"s3://jumpstart-cache-prod-us-east-1/example/{MODEL}/artifacts/inference-prepack/v1.0.0/",
        instance="ml.g5.12xlarge",
        accelerators=4,
        environment={"NUM_SHARD": "4", "HF_MODEL_ID": "/opt/ml/model"},
    )


def test_an_instance_type_s_own_values_go_over_its_family_s() -> None:
    said = published(read_published(published_file("1.0.0")), a_row("ml.g5.2xlarge"), region="us-east-1")
    assert (said.instance, said.accelerators) == ("ml.g5.2xlarge", 1)
    assert said.image == f"{REGISTRY}/example-llm:1.0"


def test_instance_types_of_a_published_file_are_right_where_a_row_s_differ() -> None:
    said = published(read_published(published_file("1.0.0")), a_row("ml.g6e.2xlarge"), region="us-east-1")
    assert said.instance == "ml.g5.12xlarge"


@pytest.mark.parametrize(
    ("changed", "region", "said"),
    [
        ({"modelId": "other"}, "us-east-1", "the file does not have this id"),
        ({"gatedBucket": True}, "us-east-1", "gated bucket"),
        ({"prepackedArtifactKey": "a/model.tar.gz"}, "us-east-1", "artifact"),
        ({}, "eu-west-1", "in eu-west-1: image"),
    ],
)
def test_what_a_published_file_cannot_say_is_refused(changed: dict[str, Any], region: str, said: str) -> None:
    entries = read_published(published_file("1.0.0", **changed))
    with pytest.raises((ConfigurationError, NotFoundError), match=said):
        published(entries, a_row(), region=region)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": [1, 2]}', b'{"data": "a"}', b"[]"])
def test_another_file_than_the_published_one_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"not a jumpstart-models\.json"):
        read_published(body)


def test_the_newest_version_counts_by_numbers_and_a_deprecated_one_does_not() -> None:
    assert newest(manifest("1.9.0", "1.10.0", "2.0.0", deprecated="2.0.0"), MODEL).version == "1.10.0"


def test_an_id_that_jumpstart_does_not_offer_is_refused() -> None:
    with pytest.raises(NotFoundError, match="unknown: JumpStart does not offer this id"):
        newest(manifest("1.0.0"), "unknown")


@pytest.mark.parametrize("body", [b"<html>", b'[{"model_id": "a"}]', b'[{"model_id": 1}]'])
def test_a_manifest_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not as JumpStart writes it"):
        newest(body, MODEL)


def test_facts_follow_from_the_instance_and_its_family() -> None:
    read = facts()

    assert read.instance == "ml.g5.2xlarge"
    assert read.image == f"{REGISTRY}/djl-inference:0.34.0-lmi16.0.0-cu128"
    assert read.environment == {"HF_MODEL_ID": "/opt/ml/model", "WORKERS": "2"}
    assert (read.min_memory_mb, read.accelerators) == (4096, 1)
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


def test_a_licence_agreement_is_named_by_its_address() -> None:
    read = facts(hosting_eula_key="eula/example.txt")
    assert read.eula == "s3://jumpstart-cache-prod-us-east-1/eula/example.txt"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"license": None}, "not complete: license"),
        ({"gated_bucket": True}, "gated bucket"),
        ({"deprecated": True}, "deprecated or vulnerable"),
        ({"inference_vulnerable": True}, "deprecated or vulnerable"),
        ({"instance": "ml.c7i.large"}, "does not run on ml.c7i.large; write one of these"),
        ({"hosting_artifact_compression_type": "Gzip"}, "one packed file"),
        ({"hosting_prepacked_artifact_key": "a/model.tar.gz"}, "one packed file"),
        ({"region": "eu-west-1"}, "on ml.g5.2xlarge in eu-west-1 its facts are not complete: image"),
        ({"instance": "ml.p5.48xlarge"}, "its facts are not complete: image"),
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
    assert row.resolved
    assert found == facts()
    text = lock.read_text()
    assert "# a comment of ours" in text
    assert "# why it is here" in text
    assert not load_candidates(lock).row("example-not-offered").resolved


def test_a_lock_that_changed_meanwhile_is_not_written(lock: Path) -> None:
    before = lock.read_bytes()
    lock.write_text(LOCK + "# somebody else\n")

    with pytest.raises(ConflictError, match="changed meanwhile"):
        write_rows(lock, before, {MODEL: {"eula_accepted": "s3://a"}})
    assert lock.read_text() == LOCK + "# somebody else\n"
    assert list(lock.parent.iterdir()) == [lock]


def test_facts_of_another_form_leave_the_lock_as_it_was(lock: Path) -> None:
    with pytest.raises(ConfigurationError, match="was not written"):
        write_rows(lock, lock.read_bytes(), {MODEL: {"resolved": True}})
    assert lock.read_text() == LOCK
    assert list(lock.parent.iterdir()) == [lock]


def test_an_unknown_id_is_refused_with_the_known_ones(lock: Path) -> None:
    with pytest.raises(NotFoundError, match=f"no candidate other; it has {MODEL}, example-not-offered"):
        load_candidates(lock).usable("other")


def test_an_unresolved_row_is_refused_with_the_command(lock: Path) -> None:
    with pytest.raises(ConfigurationError, match="assistant models candidates --region REGION"):
        load_candidates(lock).usable(MODEL)


def test_a_licence_that_is_not_allowed_is_refused(lock: Path) -> None:
    resolve(lock, license="Research only")
    with pytest.raises(ConfigurationError, match='its licence is "Research only"'):
        load_candidates(lock).usable(MODEL)


def test_an_agreement_must_be_accepted_by_the_row_s_name(lock: Path) -> None:
    resolve(lock, hosting_eula_key="eula/example.txt")
    with pytest.raises(ConfigurationError, match=f"candidates --accept-eula {MODEL}"):
        load_candidates(lock).usable(MODEL)

    accepted = load_candidates(lock).eula(MODEL)
    write_rows(lock, lock.read_bytes(), {MODEL: {"eula_accepted": accepted}})
    assert load_candidates(lock).usable(MODEL)[1].eula == accepted


def test_another_agreement_must_be_accepted_again(lock: Path) -> None:
    resolve(lock, hosting_eula_key="eula/example.txt")
    write_rows(lock, lock.read_bytes(), {MODEL: {"eula_accepted": load_candidates(lock).eula(MODEL)}})
    resolve(lock, hosting_eula_key="eula/next.txt")

    with pytest.raises(ConfigurationError, match=r"eula/next\.txt"):
        load_candidates(lock).usable(MODEL)


def test_a_row_that_asks_for_no_agreement_has_none_to_accept(lock: Path) -> None:
    with pytest.raises(ConfigurationError, match="asks for no licence agreement"):
        load_candidates(lock).eula(MODEL)


@pytest.mark.parametrize("line", ["resolved = true", "resolved = false\nimage = 1"])
def test_a_row_that_is_wrong_is_refused(lock: Path, line: str) -> None:
    lock.write_text(LOCK.replace("resolved = false", line))
    with pytest.raises(ConfigurationError, match=r"jumpstart\.lock\.toml"):
        load_candidates(lock)


def test_a_tenant_file_may_not_name_an_unresolved_candidate(lock: Path) -> None:
    refuse_unresolved(lock.parent, ("qwen3-8b-inf2",))
    with pytest.raises(ConfigurationError, match=f"{MODEL} is a candidate without facts"):
        refuse_unresolved(lock.parent, ("qwen3-8b-inf2", MODEL))

    resolve(lock)
    refuse_unresolved(lock.parent, (MODEL,))
