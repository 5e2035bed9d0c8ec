"""11 and 14: variants on Neuron, and artifacts that were compiled for something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from assistant.domain.errors import ConfigurationError
from assistant.settings.model_artifacts import instance_named
from template_checks.conditions import overlaps
from template_checks.facts import ArtifactFact
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.policies import plain
from template_checks.templates import Resource
from template_checks.values import Value, integer, is_known, text
from template_checks.workloads import containers_of, environment_of, instance_types, model_addresses

_NEURON = ("ml.inf2.", "ml.trn1.", "ml.trn1n.", "ml.trn2.")
_SHORTEST_START_S = 1800
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "batch_size": ("SM_ON_BATCH_SIZE", "HF_BATCH_SIZE", "HF_OPTIMUM_BATCH_SIZE", "MAX_BATCH_SIZE"),
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
"""What containers of Hugging Face, vLLM and DJL read the three from."""
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
"""Cores or GPUs of instances that no tenant of ours may choose (EC2, "Accelerated computing")."""
_BATCH_OF_VLLM = ("SM_VLLM_MAX_NUM_SEQS", "OPTION_MAX_ROLLING_BATCH_SIZE")


def _check_neuron(deployment: Deployment) -> Iterator[Finding]:
    for config, variant in deployment.workloads.variants():
        types = instance_types(variant)
        if not any(text(one).startswith(_NEURON) or not is_known(one) for one in types):
            continue
        name = f"ProductionVariants[{text(variant.get('VariantName'))}]"
        if not any(text(one).startswith(_NEURON) for one in types):
            yield not_proven(
                config,
                "neuron-ami",
                at=f"{name}.InstanceType",
                message="Whether it stands on Inferentia is not told.",
                mend="Give the parameter a default, or its value in the facts: parameters.",
            )
            continue
        found = [*_check_ami(config, variant, name), *_check_start_limit(config, variant, name)]
        yield from found
        if not found:
            yield passed(config, "neuron-ami")


def _check_ami(config: Resource, variant: Mapping[str, Value], name: str) -> Iterator[Finding]:
    ami = variant.get("InferenceAmiVersion")
    if ami is None or (is_known(ami) and "neuron" not in text(ami)):
        yield refused(
            config,
            "neuron-ami",
            at=f"{name}.InferenceAmiVersion",
            message=f"On {text(variant.get('InstanceType'))} it is {text(ami) or 'absent'}: the default "
            "image of the instance has no Neuron driver that the container's SDK can use.",
            mend="Set InferenceAmiVersion: al2-ami-sagemaker-inference-neuron-2.",
        )


def _check_start_limit(config: Resource, variant: Mapping[str, Value], name: str) -> Iterator[Finding]:
    value = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
    seconds = integer(value)
    is_told = value is None or seconds is not None
    if not is_told or seconds is None or seconds < _SHORTEST_START_S:
        yield (refused if is_told else not_proven)(
            config,
            "neuron-start-limit",
            at=f"{name}.ContainerStartupHealthCheckTimeoutInSeconds",
            message="Loading a compiled model takes up to half an hour; it is given up after "
            f"{text(value) or 'the default of some minutes'}.",
            mend=f"Set ContainerStartupHealthCheckTimeoutInSeconds to {_SHORTEST_START_S} or more (3600 at "
            "most).",
        )


def _check_artifacts(deployment: Deployment) -> Iterator[Finding]:
    compiled: list[tuple[Resource, dict[str, Value]]] = []
    models = deployment.workloads.models()
    for model in models:
        for container in containers_of(model):
            told = _told(environment_of(container))
            if told or _is_on_neuron(deployment, model):
                compiled.append((model, told))
                yield from _check_cores(deployment, model, told)
            elif len(deployment.facts.artifacts) >= len(models) and _is_of_no_manifest(deployment, model):
                yield _of_no_manifest(deployment, model)
    for model, told in compiled:
        artifact = _artifact_of(deployment, model, alone=len(compiled) == 1)
        if artifact is None and _is_of_no_manifest(deployment, model):
            yield _of_no_manifest(deployment, model)
        elif artifact is None:
            yield not_proven(
                model,
                "artifact-parameters",
                at="PrimaryContainer.Environment",
                message="What its artifact was compiled for is not told.",
                mend="Say it in the facts: [[artifacts]] with uri, batch_size, sequence_length and "
                "tensor_parallel of the artifact's manifest.",
            )
        else:
            yield from _compare(model, told, artifact)


def _told(environment: Mapping[str, Value]) -> dict[str, Value]:
    """Return what a container is told of the three; ``<name>`` and the variable are joined by ``=``."""
    told: dict[str, Value] = {}
    for name, variables in _VARIABLES.items():
        for variable in (*variables, *(_BATCH_OF_VLLM if name == "batch_size" else ())):
            if variable in environment:
                told[f"{name}={variable}"] = environment[variable]
    return told


def _is_on_neuron(deployment: Deployment, model: Resource) -> bool:
    return any(
        text(one).startswith(_NEURON)
        for _, variant in deployment.workloads.variants()
        if deployment.workloads.model_of(variant) is model
        for one in instance_types(variant)
    )


def _check_cores(deployment: Deployment, model: Resource, told: Mapping[str, Value]) -> Iterator[Finding]:
    wanted = next((integer(v) for name, v in told.items() if name.startswith("tensor_parallel=")), None)
    for config, variant in deployment.workloads.variants():
        if wanted is None or deployment.workloads.model_of(variant) is not model:
            continue
        for one in instance_types(variant):
            cores = _cores(text(one))
            if cores is not None and wanted > cores:
                yield refused(
                    config,
                    "too-many-cores",
                    at="ProductionVariants.InstanceType",
                    message=f"{model.logical_id} is spread over {wanted} cores; {text(one)} has {cores}.",
                    mend=f"Take an instance with {wanted} cores or more, or an artifact compiled for "
                    f"{cores}.",
                )


def _cores(instance_type: str) -> int | None:
    try:
        return instance_named(instance_type).cores or None
    except ConfigurationError:
        return _CORES.get(instance_type)


def _artifact_of(deployment: Deployment, model: Resource, *, alone: bool) -> ArtifactFact | None:
    artifacts = [one for one in deployment.facts.artifacts if one.batch_size or one.tensor_parallel]
    for artifact in artifacts:
        if artifact.uri and any(artifact.uri in address for address in _addresses(model)):
            return artifact
    # One artifact for one model needs no address to be told apart by.
    return artifacts[0] if alone and len(artifacts) == 1 and artifacts[0].uri is None else None


def _of_no_manifest(deployment: Deployment, model: Resource) -> Finding:
    named = ", ".join(artifact.uri or "" for artifact in deployment.facts.artifacts)
    return refused(
        model,
        "artifact-parameters",
        at="PrimaryContainer.ModelDataSource.S3DataSource.S3Uri",
        message=f"It loads {', '.join(_addresses(model)) or 'nothing'}, which is no artifact of a manifest "
        f"({named}), so what it was compiled for is not known.",
        mend="Load an artifact that a manifest names, or say its manifest in the facts: [[artifacts]].",
    )


def _addresses(model: Resource) -> list[str]:
    return [plain(address) for container in containers_of(model) for address in model_addresses(container)]


def _is_of_no_manifest(deployment: Deployment, model: Resource) -> bool:
    """Return whether a model surely loads nothing that the facts' manifests name."""
    uris = [artifact.uri for artifact in deployment.facts.artifacts]
    addresses = _addresses(model)
    return (
        bool(uris)
        and None not in uris
        and not any(uri and _may_hold(address, uri) for uri in uris for address in addresses)
    )


def _may_hold(address: str, part: str) -> bool:
    return overlaps(f"*{part}*", address)


def _compare(model: Resource, told: Mapping[str, Value], artifact: ArtifactFact) -> Iterator[Finding]:
    wrong = False
    for name in _VARIABLES:
        compiled: int | None = getattr(artifact, name)
        variables = {
            key.partition("=")[2]: value for key, value in told.items() if key.startswith(f"{name}=")
        }
        agrees = variables and all(integer(value) == compiled for value in variables.values())
        if compiled is None or agrees:
            continue
        wrong = True
        variable, value = next(iter(variables.items()), (_VARIABLES[name][0], None))
        is_told = value is None or integer(value) is not None
        yield (refused if is_told else not_proven)(
            model,
            "artifact-parameters",
            at=f"PrimaryContainer.Environment.{variable}",
            message=f"It is {text(value) or 'absent'}, and {artifact.name} was compiled for {compiled}: "
            "the container refuses to start, or compiles anew.",
            mend=f"Set {variable} to {compiled}, or name an artifact compiled for "
            f"{text(value) or 'its default'}.",
        )
    if not wrong:
        yield passed(model, "artifact-parameters")


MISTAKES = (
    Mistake(
        number=11,
        title="An inf2 variant without AMI version or with a start-up limit < 1,800 s",
        parts={
            "neuron-ami": "InferenceAmiVersion is absent or not a Neuron one",
            "neuron-start-limit": "ContainerStartupHealthCheckTimeoutInSeconds is absent or below 1800",
        },
        why="The default machine image has no Neuron driver; a compiled model of some GB takes longer to "
        "load than the default start-up limit, and the endpoint fails after minutes of billing.",
        mend="InferenceAmiVersion: al2-ami-sagemaker-inference-neuron-2 and a limit of 1800 to 3600 s.",
        absent="no variant stands on inf2 or trn1",
        check=_check_neuron,
    ),
    Mistake(
        number=14,
        title="Batch, sequence or tensor-parallel differing from the artifact's manifest, or more cores "
        "than the instance has",
        parts={
            "artifact-parameters": "batch size, sequence length or tensor parallelism is not what the "
            "artifact was compiled with, or no manifest names the artifact",
            "too-many-cores": "tensor parallelism is more than the instance's cores or GPUs",
        },
        why="A compiled artifact serves exactly the shapes that it was compiled for; with others the "
        "container stops at start, or compiles for an hour.",
        mend="The values of the artifact's manifest, on an instance with at least as many cores.",
        absent="no model says batch size, sequence length or tensor parallelism",
        facts="[[artifacts]]",
        check=_check_artifacts,
    ),
)
