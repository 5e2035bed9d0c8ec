"""The environment of each model container: what its image reads, from the artifact's manifest alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.model_artifacts import EmbeddingManifest, Instance, LlmManifest
from assistant.settings.process import ModelServerSettings
from stacks.models.permissions import ModelRole
from stacks.runbook import link

MODEL_FOLDER = Path("/opt/ml/model")
"""Where SageMaker puts an artifact into a container."""
_EMBEDDINGS_IN_ONE_REQUEST = 32
"""What the embedding client sends at most."""
_CLOSED = {"HF_HUB_OFFLINE": "1"}
"""The container reaches no network: it shall say so at once instead of trying."""


def llm_environment(manifest: LlmManifest, *, instance: Instance) -> dict[str, str]:
    """Raises ConfigurationError for an image that serves no chat model."""
    if manifest.image == "llm_neuronx":
        return _CLOSED | _neuron(manifest)
    if manifest.image == "llm_gpu":
        return _CLOSED | _gpu(manifest)
    if manifest.image == "model_server":
        (weights,) = manifest.files
        return ModelServerSettings.variables(
            {
                "task": "generation",
                "path": MODEL_FOLDER / weights,
                "slots": manifest.batch_size,
                "context_tokens": manifest.sequence_length,
                "threads": instance.vcpus,
            }
        )
    raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no chat model.")


def embedding_environment(manifest: EmbeddingManifest, *, instance: Instance) -> dict[str, str]:
    """Raises ConfigurationError for an image that serves no embedding model."""
    if manifest.image == "embedding_tei_cpu":
        return _CLOSED | {
            "HF_MODEL_ID": str(MODEL_FOLDER),
            "POOLING": manifest.pooling,
            "DTYPE": manifest.dtype,
            "MAX_CLIENT_BATCH_SIZE": str(_EMBEDDINGS_IN_ONE_REQUEST),
            "AUTO_TRUNCATE": "false",  # true by default from 1.9 on; an input is never cut unseen
        }
    if manifest.image == "model_server":
        return ModelServerSettings.variables(
            {
                "task": "embedding",
                "path": MODEL_FOLDER,
                "max_input_tokens": manifest.max_tokens,
                "threads": instance.vcpus,
            }
        )
    raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no embedding model.")


def _neuron(manifest: LlmManifest) -> dict[str, str]:
    """``SM_ON_<NAME>`` becomes ``optimum-cli neuron serve --<name>``, which refuses to start where a value
    is not what the artifact was compiled with."""
    return {
        "SM_ON_MODEL": str(MODEL_FOLDER),
        "SM_ON_SERVED_MODEL_NAME": manifest.served_name,
        "SM_ON_BATCH_SIZE": str(manifest.batch_size),
        "SM_ON_SEQUENCE_LENGTH": str(manifest.sequence_length),
        "SM_ON_TENSOR_PARALLEL_SIZE": str(manifest.tensor_parallel),
        **_template("SM_ON_CHAT_TEMPLATE", manifest),
    }


def _gpu(manifest: LlmManifest) -> dict[str, str]:
    """``SM_VLLM_<NAME>`` becomes vLLM's ``--<name>``."""
    return {
        "SM_VLLM_MODEL": str(MODEL_FOLDER),
        "SM_VLLM_SERVED_MODEL_NAME": manifest.served_name,
        "SM_VLLM_MAX_NUM_SEQS": str(manifest.batch_size),
        "SM_VLLM_MAX_MODEL_LEN": str(manifest.sequence_length),
        "SM_VLLM_TENSOR_PARALLEL_SIZE": str(manifest.tensor_parallel),
        "SM_VLLM_DTYPE": manifest.dtype,
        "STANDARD_AUTO_INSTALL_REQ": "false",  # else it installs what an artifact's requirements.txt names
        **_template("SM_VLLM_CHAT_TEMPLATE", manifest),
    }


def _template(variable: str, manifest: LlmManifest) -> dict[str, str]:
    return {variable: str(MODEL_FOLDER / manifest.chat_template)} if manifest.chat_template else {}


# One SageMaker endpoint: its model, its configuration, and what stands only while the power is on.


VARIANT = "AllTraffic"
_BAKE_S = 600
"""How long the new fleet answers before the old one goes; an alarm in it brings the old one back."""
_LONGEST_DEPLOYMENT_S = 4 * 3600
_SCALE_OUT_S = 60
_SCALE_IN_S = 900
"""An instance takes many minutes to be useful: it is not given up for a short lull."""
_SYSTEM_GB = 30
"""Of an endpoint's volume, for what is not weights: the image's layers and what it unpacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Seconds that SageMaker allows each step of a start."""

    provision: int
    """Waiting for capacity, 300 to 3,600."""
    download: int
    """Fetching the artifact from S3."""
    startup: int
    """From the container's start until it answers /ping."""


CaptureMode = Literal["Input", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Where copies of calls and answers are written."""

    uri: str
    key_arn: str
    percent: int
    modes: tuple[CaptureMode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """What an endpoint serves, by what, on what."""

    name: str
    """Of the endpoint: fixed, so that nothing refers to what is absent while the power is off."""
    image_uri: str
    environment: Mapping[str, str]
    artifact_uri: str
    """``s3://…/``, a prefix: with the slash, or S3 would take every sibling that begins alike."""
    weights_bytes: int
    instance: Instance
    ami: str | None
    waits: Waits
    min_instances: int
    max_instances: int
    concurrent_requests: int
    """Of one copy of the model, at which another instance is started."""
    slow_ms: int
    slow_metric: Literal["ModelLatency", "FirstChunkModelLatency"]
    capture: Capture | None
    volume_key_arn: str
    """Of the EBS volume; an instance with local disks takes none."""
    subnet_ids: tuple[str, ...]
    security_group_id: str


class ModelEndpoint(Construct):
    """Model and configuration are always there, and cost nothing. Endpoint, scaling and alarms stand behind
    ``stands``. Names of model and configuration are generated: either changes by being replaced."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        plan: EndpointPlan,
        role: ModelRole,
        stands: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, construct_id)
        self._plan = plan
        self._stands = stands
        model = self._model(role)
        config = self._config(model)
        alarms = [self._errors_alarm(), self._latency_alarm()]
        endpoint = self._endpoint(config, alarms)
        self._scale(endpoint)

    def _model(self, role: ModelRole) -> sagemaker.CfnModel:
        plan = self._plan
        model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=plan.image_uri,
                environment=dict(sorted(plan.environment.items())),
                model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(
                    s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                        s3_uri=plan.artifact_uri, s3_data_type="S3Prefix", compression_type="None"
                    )
                ),
            ),
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                subnets=list(plan.subnet_ids), security_group_ids=[plan.security_group_id]
            ),
        )
        model.node.add_dependency(role.policy)  # it reads the artifact when it is made
        return model

    def _config(self, model: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig:
        plan = self._plan
        volume_gb = None if plan.instance.has_local_disk else _volume_gb(plan.weights_bytes)
        return sagemaker.CfnEndpointConfig(
            self,
            "Config",
            # With a key for a local disk SageMaker refuses the configuration: its hardware encrypts that.
            kms_key_id=None if plan.instance.has_local_disk else plan.volume_key_arn,
            data_capture_config=_capture(plan.capture),
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.attr_model_name,
                    instance_type=plan.instance.name,
                    initial_instance_count=plan.min_instances,
                    initial_variant_weight=1.0,
                    inference_ami_version=plan.ami,
                    volume_size_in_gb=volume_gb,
                    routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                        routing_strategy="LEAST_OUTSTANDING_REQUESTS"
                    ),
                    variant_instance_provision_timeout_in_seconds=plan.waits.provision,
                    model_data_download_timeout_in_seconds=plan.waits.download,
                    container_startup_health_check_timeout_in_seconds=plan.waits.startup,
                    enable_ssm_access=False,
                )
            ],
        )

    def _endpoint(
        self, config: sagemaker.CfnEndpointConfig, alarms: list[cloudwatch.CfnAlarm]
    ) -> sagemaker.CfnEndpoint:
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self._plan.name,
            endpoint_config_name=config.attr_endpoint_config_name,
            retain_all_variant_properties=True,  # else an update resets the count that scaling has reached
            deployment_config=sagemaker.CfnEndpoint.DeploymentConfigProperty(
                auto_rollback_configuration=sagemaker.CfnEndpoint.AutoRollbackConfigProperty(
                    alarms=[sagemaker.CfnEndpoint.AlarmProperty(alarm_name=alarm.ref) for alarm in alarms]
                ),
                blue_green_update_policy=sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty(
                    maximum_execution_timeout_in_seconds=_LONGEST_DEPLOYMENT_S,
                    termination_wait_in_seconds=_BAKE_S,
                    # In one step: a canary is half of the instances at most, and there may be one.
                    traffic_routing_configuration=sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
                        type="ALL_AT_ONCE", wait_interval_in_seconds=_BAKE_S
                    ),
                ),
            ),
        )
        endpoint.cfn_options.condition = self._stands
        return endpoint

    def _scale(self, endpoint: sagemaker.CfnEndpoint) -> None:
        plan = self._plan
        target = scaling.CfnScalableTarget(
            self,
            "ScalableTarget",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{plan.name}/variant/{VARIANT}",
            min_capacity=plan.min_instances,
            max_capacity=plan.max_instances,
        )
        target.add_resource_dependency(endpoint)  # its id is a name, so nothing else says which is first
        target.cfn_options.condition = self._stands
        policy = scaling.CfnScalingPolicy(
            self,
            "ScalingPolicy",
            policy_name="ConcurrentRequests",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=(
                scaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                    target_value=plan.concurrent_requests,
                    scale_in_cooldown=_SCALE_IN_S,
                    scale_out_cooldown=_SCALE_OUT_S,
                    predefined_metric_specification=(
                        scaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                            predefined_metric_type=(
                                "SageMakerVariantConcurrentRequestsPerModelHighResolution"
                            )
                        )
                    ),
                )
            ),
        )
        policy.cfn_options.condition = self._stands

    def _errors_alarm(self) -> cloudwatch.CfnAlarm:
        return self._alarm(
            "Errors",
            metric="Invocation5XXErrors",
            description=f"{self._plan.name} fails: a deployment of it in progress is rolled back.",
            threshold=5,
            statistic="Sum",
        )

    def _latency_alarm(self) -> cloudwatch.CfnAlarm:
        return self._alarm(
            "Latency",
            metric=self._plan.slow_metric,
            description=f"{self._plan.name} is slow: a deployment of it in progress is rolled back.",
            threshold=self._plan.slow_ms * 1000,  # the metric is in microseconds
            extended_statistic="p90",
        )

    def _alarm(
        self,
        construct_id: str,
        *,
        metric: str,
        description: str,
        threshold: float,
        statistic: str | None = None,
        extended_statistic: str | None = None,
    ) -> cloudwatch.CfnAlarm:
        dimensions = {"EndpointName": self._plan.name, "VariantName": VARIANT}
        alarm = cloudwatch.CfnAlarm(
            self,
            construct_id,
            alarm_description=f"{description} What to do: {link('new-endpoint-failing')}",
            namespace="AWS/SageMaker",
            metric_name=metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)
                for name, value in dimensions.items()
            ],
            statistic=statistic,
            extended_statistic=extended_statistic,
            threshold=threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            period=60,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            treat_missing_data="notBreaching",  # nobody asks at night, and an endpoint begins without data
        )
        alarm.cfn_options.condition = self._stands
        return alarm


def _capture(capture: Capture | None) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty | None:
    if capture is None:
        return None
    return sagemaker.CfnEndpointConfig.DataCaptureConfigProperty(
        enable_capture=True,
        initial_sampling_percentage=capture.percent,
        destination_s3_uri=capture.uri,
        kms_key_id=capture.key_arn,
        capture_options=[
            sagemaker.CfnEndpointConfig.CaptureOptionProperty(capture_mode=mode) for mode in capture.modes
        ],
        # Named, it is captured as it is; all else in base64.
        capture_content_type_header=sagemaker.CfnEndpointConfig.CaptureContentTypeHeaderProperty(
            json_content_types=["application/json"]
        ),
    )


def _volume_gb(weights_bytes: int) -> int:
    """The artifact, room for what the container derives from it, and the image: in steps of 10."""
    return 10 * math.ceil((_SYSTEM_GB + 2 * weights_bytes / 1e9) / 10)
