"""Mistakes 11 to 17 and 23 as changes to correct templates."""

from __future__ import annotations

from tests.stacks.mistakes.planted import plant
from tests.stacks.mistakes.scene import Scene, raw_properties

CONFIG = "AWS::SageMaker::EndpointConfig"
MODEL = "AWS::SageMaker::Model"
ENDPOINT = "AWS::SageMaker::Endpoint"
SCALING = "AWS::ApplicationAutoScaling::ScalableTarget"


@plant(11, "neuron-ami")
def inferentia_without_its_machine_image(scene: Scene) -> None:
    del scene.variant()["InferenceAmiVersion"]


@plant(11, "neuron-ami")
def inferentia_with_a_machine_image_for_gpus(scene: Scene) -> None:
    scene.variant()["InferenceAmiVersion"] = "al2-ami-sagemaker-inference-gpu-2"


@plant(11, "neuron-start-limit")
def inferentia_with_ten_minutes_to_start(scene: Scene) -> None:
    scene.variant()["ContainerStartupHealthCheckTimeoutInSeconds"] = 600


@plant(12, "image-unpinned")
def image_latest(scene: Scene) -> None:
    address = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/chat:latest"
    scene.container()["Image"] = address


@plant(12, "image-unpinned")
def image_without_a_tag(scene: Scene) -> None:
    scene.llm()["Image"] = "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx"


@plant(12, "image-unpinned")
def image_by_a_tag_that_moves(scene: Scene) -> None:
    scene.llm()["Image"] = (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx:stable"
    )


@plant(12, "image-account")
def image_of_another_account(scene: Scene) -> None:
    region = scene.facts.region
    scene.llm()["Image"] = (
        f"444455556666.dkr.ecr.{region}.amazonaws.com/huggingface-vllm-inference-neuronx"
        ":0.11.0-optimum0.4.5-neuronx-py310-sdk2.26.1-ubuntu22.04"
    )


@plant(13, "hub-id")
def model_of_a_hub(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_MODEL"] = "mistralai/Mistral-7B-Instruct-v0.3"


@plant(13, "hub-id")
def model_of_a_hub_by_jumpstart(scene: Scene) -> None:
    hub = {"HubContentArn": "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/x/1.0.0"}
    scene.llm()["ModelDataSource"]["S3DataSource"]["HubAccessConfig"] = hub


@plant(13, "prefix-without-slash")
def prefix_without_a_slash(scene: Scene) -> None:
    source = scene.llm()["ModelDataSource"]["S3DataSource"]
    source["S3Uri"] = {"Fn::Join": ["", [source["S3Uri"], "weights"]]}


@plant(14, "artifact-parameters")
def another_batch_size(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_BATCH_SIZE"] = "16"


@plant(14, "artifact-parameters")
def no_tensor_parallel(scene: Scene) -> None:
    del scene.llm()["Environment"]["SM_ON_TENSOR_PARALLEL_SIZE"]


@plant(14, "too-many-cores")
def more_cores_than_the_instance_has(scene: Scene) -> None:
    scene.llm()["Environment"]["SM_ON_TENSOR_PARALLEL_SIZE"] = "8"
    artifacts = tuple(one.model_copy(update={"tensor_parallel": 8}) for one in scene.facts.artifacts)
    scene.know(artifacts=artifacts)


@plant(15, "hard-coded-name")
def model_with_a_name(scene: Scene) -> None:
    scene.properties(MODEL, PrimaryContainer="SM_ON_BATCH_SIZE")["ModelName"] = "llm"


@plant(15, "hard-coded-reference")
def variant_by_a_fixed_name(scene: Scene) -> None:
    scene.variant()["ModelName"] = "llm-2024"


@plant(16, "retain-variants")
def variants_not_retained(scene: Scene) -> None:
    del scene.properties(ENDPOINT)["RetainAllVariantProperties"]


@plant(16, "scaling-before-endpoint")
def scaling_before_the_endpoint(scene: Scene) -> None:
    endpoint = scene.one(ENDPOINT)
    raw_properties(endpoint)["EndpointName"] = "the-endpoint"
    for target in scene.all(SCALING, ServiceNamespace="sagemaker"):
        raw_properties(target)["ResourceId"] = "endpoint/the-endpoint/variant/main"
        target.raw.pop("DependsOn", None)  # type: ignore[attr-defined]


@plant(17, "capture-without-key")
def capture_without_a_key(scene: Scene) -> None:
    del scene.properties(CONFIG, DataCaptureConfig="DestinationS3Uri")["DataCaptureConfig"]["KmsKeyId"]


@plant(23, "local-disk-key")
def a_key_for_a_local_disk(scene: Scene) -> None:
    scene.variant()["InstanceType"] = "ml.g6e.2xlarge"


@plant(23, "instance-unknown")
def a_key_where_a_pool_may_have_a_local_disk(scene: Scene) -> None:
    scene.variant()["InstancePools"] = [{"InstanceType": "ml.m6id.xlarge", "Priority": 2}]
