"""11, 14 and 23: instances of model endpoints, what artifacts were compiled for, and keys of local disks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from template_checks.conditions import overlaps
from template_checks.facts import ArtifactFact
from template_checks.findings import (
    Deployment,
    Finding,
    judge,
    not_proven,
    or_passed,
    passed,
    refused,
    unknown_parameter,
)
from template_checks.policies import plain
from template_checks.templates import Resource
from template_checks.values import Value, integer, is_known, text
from template_checks.workloads import Variant, containers_of, environment_of, instance_types, model_addresses

_NEURON = ("ml.inf2.", "ml.trn1.", "ml.trn1n.", "ml.trn2.")


def _is_on_neuron(variant: Variant) -> bool:
    return any(text(one).startswith(_NEURON) for one in instance_types(variant))


def _place(variant: Variant) -> str:
    return f"ProductionVariants[{text(variant.get('VariantName'))}]"


# --- 11: variants on Neuron -------------------------------------------------------------------------------
_SHORTEST_START_S = 1800


def _check_neuron(deployment: Deployment) -> Iterator[Finding]:
    for config, variant in deployment.workloads.variants():
        if _is_on_neuron(variant):
            yield from or_passed(_check_variant(config, variant), config, "neuron-ami")
        elif not all(map(is_known, instance_types(variant))):
            place = f"{_place(variant)}.InstanceType"
            message = "Whether it runs on Inferentia is unknown."
            yield unknown_parameter(config, "neuron-ami", at=place, message=message)


def _check_variant(config: Resource, variant: Variant) -> Iterator[Finding]:
    ami = variant.get("InferenceAmiVersion")
    if ami is None or (is_known(ami) and "neuron" not in text(ami)):
        yield refused(
            config,
            "neuron-ami",
            at=f"{_place(variant)}.InferenceAmiVersion",
            message=f"On {text(variant.get('InstanceType'))} it is {text(ami) or 'absent'}: the default "
            "image of the instance has no Neuron driver that the container's SDK can use.",
            fix="Set InferenceAmiVersion: al2-ami-sagemaker-inference-neuron-2.",
        )
    value = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
    seconds = integer(value)
    if seconds is None or seconds < _SHORTEST_START_S:
        yield judge(
            None if value is not None and seconds is None else False,
            config,
            "neuron-start-limit",
            at=f"{_place(variant)}.ContainerStartupHealthCheckTimeoutInSeconds",
            message="Loading a compiled model takes up to half an hour. The start is aborted after "
            f"{text(value) or 'the default of some minutes'}.",
            fix=f"Set ContainerStartupHealthCheckTimeoutInSeconds to {_SHORTEST_START_S} or more (3600 at "
            "most).",
        )


# --- 14: artifacts ----------------------------------------------------------------------------------------
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "batch_size": (
        "SM_ON_BATCH_SIZE",
        "HF_BATCH_SIZE",
        "HF_OPTIMUM_BATCH_SIZE",
        "MAX_BATCH_SIZE",
        "SM_VLLM_MAX_NUM_SEQS",
        "OPTION_MAX_ROLLING_BATCH_SIZE",
    ),
    "sequence_length": (
        "SM_ON_SEQUENCE_LENGTH",
        "SM_VLLM_MAX_MODEL_LEN",
        "HF_SEQUENCE_LENGTH",
        "HF_OPTIMUM_SEQUENCE_LENGTH",
        "MAX_TOTAL_TOKENS",
        "OPTION_N_POSITIONS",
        "OPTION_MAX_MODEL_LEN",
    ),
    "tensor_parallel": (
        "SM_ON_TENSOR_PARALLEL_SIZE",
        "SM_VLLM_TENSOR_PARALLEL_SIZE",
        "HF_NUM_CORES",
        "OPTION_TENSOR_PARALLEL_DEGREE",
        "SM_NUM_GPUS",
    ),
}
"""Variables of the containers of Hugging Face, vLLM and DJL."""
_CORES: Mapping[str, int] = {
    "ml.g4dn.xlarge": 1,
    "ml.g4dn.12xlarge": 4,
    "ml.g5.8xlarge": 1,
    "ml.g5.16xlarge": 1,
    "ml.g5.24xlarge": 4,
    "ml.g5.48xlarge": 8,
    "ml.g6.8xlarge": 1,
    "ml.g6.24xlarge": 4,
    "ml.g6.48xlarge": 8,
    "ml.g6e.24xlarge": 4,
    "ml.g6e.48xlarge": 8,
    "ml.p4d.24xlarge": 8,
    "ml.p4de.24xlarge": 8,
    "ml.p5.48xlarge": 8,
    "ml.trn1n.32xlarge": 32,
}
"""Cores or GPUs of instances that are not in the facts (EC2, "Accelerated computing")."""
_Settings = Mapping[str, Mapping[str, Value]]
"""``batch_size``, ``sequence_length`` and ``tensor_parallel`` = variables that a container sets for it."""


def _check_artifacts(deployment: Deployment) -> Iterator[Finding]:
    compiled: list[tuple[Resource, _Settings]] = []
    models, variants = deployment.workloads.models(), deployment.workloads.variants()
    for model in models:
        own = [(config, one) for config, one in variants if deployment.workloads.model_of(one) is model]
        for container in containers_of(model):
            environment = environment_of(container)
            settings = {
                name: {variable: environment[variable] for variable in variables if variable in environment}
                for name, variables in _VARIABLES.items()
            }
            if any(settings.values()) or any(_is_on_neuron(variant) for _, variant in own):
                compiled.append((model, settings))
                yield from _check_cores(deployment, model, settings, own)
            elif len(deployment.facts.artifacts) >= len(models) and _is_in_no_manifest(deployment, model):
                yield _in_no_manifest(deployment, model)
    for model, settings in compiled:
        artifact = _artifact_of(deployment, model, alone=len(compiled) == 1)
        if artifact is not None:
            yield from or_passed(_compare(model, settings, artifact), model, "artifact-parameters")
        elif _is_in_no_manifest(deployment, model):
            yield _in_no_manifest(deployment, model)
        else:
            yield not_proven(
                model,
                "artifact-parameters",
                at="PrimaryContainer.Environment",
                message="The parameters that its artifact was compiled for are unknown.",
                fix="Give them in the facts: [[artifacts]] with uri, batch_size, sequence_length and "
                "tensor_parallel of the artifact's manifest.",
            )


def _check_cores(
    deployment: Deployment, model: Resource, settings: _Settings, variants: list[tuple[Resource, Variant]]
) -> Iterator[Finding]:
    wanted = next(map(integer, settings["tensor_parallel"].values()), None)
    for config, variant in variants:
        for one in map(text, instance_types(variant)):
            known = deployment.facts.instances.get(one)
            cores = known.cores if known else _CORES.get(one)
            if wanted is not None and cores and wanted > cores:
                message = f"{model.logical_id} needs {wanted} cores; {one} has {cores}."
                fix = f"Use an instance with {wanted} cores or more, or an artifact compiled for {cores}."
                yield refused(
                    config, "too-many-cores", at="ProductionVariants.InstanceType", message=message, fix=fix
                )


def _artifact_of(deployment: Deployment, model: Resource, *, alone: bool) -> ArtifactFact | None:
    artifacts = [one for one in deployment.facts.artifacts if one.batch_size or one.tensor_parallel]
    for artifact in artifacts:
        if artifact.uri and any(artifact.uri in address for address in _addresses(model)):
            return artifact
    # A single artifact for a single model needs no address.
    return artifacts[0] if alone and len(artifacts) == 1 and artifacts[0].uri is None else None


def _addresses(model: Resource) -> list[str]:
    return [plain(address) for container in containers_of(model) for address in model_addresses(container)]


def _is_in_no_manifest(deployment: Deployment, model: Resource) -> bool:
    """Return whether a model surely loads nothing that the facts' manifests name."""
    uris = [artifact.uri for artifact in deployment.facts.artifacts]
    if not uris or None in uris:
        return False
    return not any(uri and overlaps(f"*{uri}*", address) for uri in uris for address in _addresses(model))


def _in_no_manifest(deployment: Deployment, model: Resource) -> Finding:
    named = ", ".join(artifact.uri or "" for artifact in deployment.facts.artifacts)
    return refused(
        model,
        "artifact-parameters",
        at="PrimaryContainer.ModelDataSource.S3DataSource.S3Uri",
        message=f"It loads {', '.join(_addresses(model)) or 'nothing'}, which no manifest names ({named}), "
        "so the parameters that it was compiled for are unknown.",
        fix="Load an artifact that a manifest names, or give its manifest in the facts: [[artifacts]].",
    )


def _compare(model: Resource, settings: _Settings, artifact: ArtifactFact) -> Iterator[Finding]:
    for name, variables in settings.items():
        compiled: int | None = getattr(artifact, name)
        agrees = variables and all(integer(value) == compiled for value in variables.values())
        if compiled is None or agrees:
            continue
        variable, value = next(iter(variables.items()), (_VARIABLES[name][0], None))
        yield judge(
            None if value is not None and integer(value) is None else False,
            model,
            "artifact-parameters",
            at=f"PrimaryContainer.Environment.{variable}",
            message=f"It is {text(value) or 'absent'}, and {artifact.name} was compiled for {compiled}: "
            "the container refuses to start, or compiles again.",
            fix=f"Set {variable} to {compiled}, or name an artifact compiled for "
            f"{text(value) or 'its default'}.",
        )


# --- 23: keys of local disks ------------------------------------------------------------------------------
_WITH_LOCAL_DISKS = frozenset(
    {
        *("g4dn", "g5", "g6", "g6e", "gr6", "g7e"),
        *("p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6e-gb200"),
        *("trn1", "trn1n", "trn2"),
        *("i3", "i3en", "i4i", "i7ie"),
    }
)
"""Families with local NVMe disks whose names do not show it (EC2, "Instance store volumes")."""
_LOCAL_BY_NAME = re.compile(r"[a-z]+\d+[a-z]*d[a-z]*")
"""``c5d``, ``m6id``, ``r6gd``, ``m5dn``: a ``d`` after the generation is a local disk (EC2, "Naming")."""


def _check_local_disks(deployment: Deployment) -> Iterator[Finding]:
    for config, variant in deployment.workloads.variants():
        types = instance_types(variant)
        local = [text(one) for one in types if is_known(one) and _has_local_disk(deployment, text(one))]
        if not types:
            continue
        if "KmsKeyId" not in config.properties:
            yield passed(config, "local-disk-key")
        elif not local and not all(map(is_known, types)):
            message = "Whether its instance has local disks, which allow no key, is unknown."
            yield unknown_parameter(
                config, "local-disk-key", at=f"{_place(variant)}.InstanceType", message=message
            )
        else:
            yield judge(
                not local,
                config,
                "local-disk-key",
                at="KmsKeyId",
                message=f"{_place(variant)} runs on {''.join(local[:1])}, which has local NVMe disks: "
                "CreateEndpointConfig refuses any key there, paused or not.",
                fix="Remove KmsKeyId: the instance encrypts its disks in hardware. If a key of your own is "
                "required, use an instance with EBS alone.",
            )


def _has_local_disk(deployment: Deployment, instance_type: str) -> bool:
    known = deployment.facts.instances.get(instance_type)
    family = instance_type.removeprefix("ml.").rpartition(".")[0]
    if known:
        return known.has_local_disk
    return family in _WITH_LOCAL_DISKS or _LOCAL_BY_NAME.fullmatch(family) is not None


CHECKS = {11: _check_neuron, 14: _check_artifacts, 23: _check_local_disks}
