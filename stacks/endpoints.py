"""One SageMaker endpoint: model, role, log, configuration, scaling, and the alarms that roll a deployment
back. In a pause the power switch (``stacks.models``) removes the endpoint, its scaling and its alarms; model
and configuration stay and cost nothing.

SageMaker runs an endpoint by a role that reads its artifact and image and writes its log and captures
("CreateModel API: Execution Role Permissions", SageMaker AI guide). The container itself, isolated from the
network, has no credentials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import ModelServerSettings
from assistant.tenant.deployed_names import NEXT_ENDPOINT, SERVED_VARIANT
from assistant.tenant.manifests import EmbeddingManifest, Instance, LlmManifest
from stacks.outputs import Workload
from stacks.processes import PULL_IMAGE, image_repository_arn, image_uri
from stacks.roles import (
    Duty,
    WorkloadRole,
    allow,
    bucket_arn,
    interface_statements,
    tag_duty,
    via_s3,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, described, endpoint_log_group, tenant_log_group

_MODEL_FOLDER = Path("/opt/ml/model")
"""Where SageMaker puts an artifact into a container."""
_MAX_EMBEDDINGS_PER_REQUEST = 32
"""Equal to the embedding client's batch size."""
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
"""The container reaches no network: a download fails at once instead of timing out."""
_BAKE_S = 600
"""In a deployment the old instances stay this long beside the new ones; an alarm in this time restores
them."""
_MAX_DEPLOYMENT_S = 4 * 3600
_SCALE_OUT_S = 60
_SCALE_IN_S = 900
"""An instance takes many minutes to start: a short lull does not remove it."""
_SYSTEM_GB = 30
"""Space of an endpoint's volume for the image's layers and what it unpacks."""

CaptureMode = Literal["Input", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What differs between the endpoints. ``embedding_models`` and ``llm`` make it from the tenant file."""

    task: Literal["embedding", "llm"]
    place: Literal["Embedding", "EmbeddingNext", "Llm"]
    """Construct id of its endpoint."""
    endpoint_name: str
    """Fixed, so that nothing refers to the endpoint itself, which is absent while paused."""
    manifest: EmbeddingManifest | LlmManifest
    instance: Instance
    environment: dict[str, str]
    concurrent_requests: int
    """Per copy of the model; at this load another instance starts."""
    slow_ms: int
    """p90 of ``slow_metric`` from which a deployment is rolled back."""
    slow_metric: Literal["ModelLatency", "FirstChunkModelLatency"]
    captured: tuple[CaptureMode, ...]
    """Parts of a call that are captured; empty: none."""


def embedding_models(tenant: DeployedTenant) -> list[ServedModel]:
    """Return the endpoints of ``[embedding]`` and, where the file has it, ``[embedding_next]``.

    They capture texts and no vectors, which are many times as large and of no use for training. Questions and
    passages come through one endpoint, with one capture percentage; passages come in thousands, and the
    redactor drops most of them. With ``capture = "direct"`` there is no redactor, so texts are captured only
    where the tenant wants all passages.
    """
    models = tenant.models
    is_captured = models.capture != "direct" or models.capture_passages_percent == 100
    return [
        ServedModel(
            task="embedding",
            place="EmbeddingNext" if section.endpoint.endswith(NEXT_ENDPOINT) else "Embedding",
            endpoint_name=section.endpoint,
            manifest=manifest,
            instance=instance,
            environment=_embedding_environment(manifest),
            concurrent_requests=max(2, 2 * instance.vcpus),
            slow_ms=2000,
            slow_metric="ModelLatency",
            captured=("Input",) if is_captured else (),
        )
        for section, manifest, instance in tenant.embeddings
    ]


def llm(tenant: DeployedTenant, manifest: LlmManifest) -> ServedModel:
    """Return the tenant's LLM endpoint with the model of a manifest."""
    instance = tenant.llm_instance(manifest)
    return ServedModel(
        task="llm",
        place="Llm",
        endpoint_name=tenant.config.generation.endpoint,
        manifest=manifest,
        instance=instance,
        environment=_llm_environment(manifest, instance=instance),
        # Three quarters of the compiled batch size: another instance must start early, as it takes many
        # minutes.
        concurrent_requests=max(1, manifest.batch_size * 3 // 4),
        slow_ms=10_000,
        slow_metric="FirstChunkModelLatency",  # a whole stream takes as long as its answer
        captured=("Input", "Output"),
    )


class ModelEndpoint(Construct):
    """An endpoint with its role, log group, model, configuration, scaling and rollback alarms.

    Names of model and configuration are generated: a change of either replaces it. The endpoint's name is
    fixed.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        served: ServedModel,
        foundation: Foundation,
        condition: cdk.CfnCondition,
    ) -> None:
        """``condition`` holds while the endpoint exists."""
        super().__init__(scope, construct_id)
        self._served = served
        tenant = self._tenant = foundation.tenant
        self._keys, self._network = foundation.keys, foundation.network
        data = self._data = foundation.data
        self._condition = condition
        self._artifact = _artifact_prefix(self, served)
        buckets = {"quarantine": data.quarantine_bucket, "direct": data.capture_bucket, "off": None}
        # Captured calls go to the quarantine, to be redacted, or straight into the capture bucket.
        self._capture_bucket = buckets[tenant.models.capture] if served.captured else None
        role, policy = self._role()  # reads the attributes above
        serving = Construct(self, "Serving")
        model = self._model(serving, role)
        model.node.add_dependency(policy)  # SageMaker reads the artifact when it creates the model
        config = self._config(serving, model)
        slow_us = served.slow_ms * 1000  # the unit of the metric
        alarms = [
            self._alarm(serving, "Errors", "Invocation5XXErrors", "fails", 5, statistic="Sum"),
            self._alarm(serving, "Latency", served.slow_metric, "is slow", slow_us, extended_statistic="p90"),
        ]
        endpoint = self._endpoint(serving, config, alarms)
        self._scale(serving, endpoint)

    def _role(self) -> tuple[WorkloadRole, iam.ManagedPolicy]:
        served, keys = self._served, self._keys
        log_group = tenant_log_group(
            self,
            "Log",
            logs_key_arn=keys.logs_key_arn,
            # SageMaker chooses the name; it would create the group itself, without key or retention.
            name=endpoint_log_group(served.endpoint_name),
        )
        statements = [*self._serving_statements(log_group.log_group_arn), *self._artifact_statements()]
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="sagemaker.amazonaws.com",
            description=f"Runs the containers of the endpoint {served.endpoint_name}",
        )
        if self._capture_bucket is not None:
            # It puts captured calls, and reads none.
            captured = f"{bucket_arn(self, self._capture_bucket)}/{served.task}/*"
            statements.append(allow("s3:PutObject", captured))
            data_key = "kms:GenerateDataKey"
            statements.append(allow(data_key, keys.capture_key_arn, conditions=via_s3(self)))
            tag_duty(role, Duty.CAPTURE_WRITER)
        policy = iam.ManagedPolicy(
            role,
            "Rights",
            description=f"What the endpoint {served.endpoint_name} reads and writes",
            statements=statements,
        )
        role.declare(statements)
        role.add_managed_policy(policy)
        return role, policy

    def _serving_statements(self, log_group_arn: str) -> list[iam.PolicyStatement]:
        """Let SageMaker pull the image, write log lines and metrics, and create interfaces in the tenant's
        subnets."""
        own_metrics = {"StringEquals": {"cloudwatch:namespace": "/aws/sagemaker/Endpoints"}}
        return [
            # Both actions support no resources (Service Authorization Reference).
            allow("ecr:GetAuthorizationToken", "*"),
            allow("cloudwatch:PutMetricData", "*", conditions=own_metrics),
            allow(PULL_IMAGE, image_repository_arn(self, self._tenant, self._served.manifest.image)),
            allow(("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), log_group_arn),
            *interface_statements(self, network=self._network, workload=Workload.MODELS),
        ]

    def _artifact_statements(self) -> list[iam.PolicyStatement]:
        """Let SageMaker read the artifact: only the files that its manifest names."""
        arn, prefix = bucket_arn(self, self._data.models_bucket), self._artifact
        return [
            allow("s3:GetObject", *(f"{arn}/{prefix}{name}" for name in self._served.manifest.files)),
            allow("s3:ListBucket", arn, conditions={"StringLike": {"s3:prefix": f"{prefix}*"}}),
            allow("kms:Decrypt", self._keys.models_key_arn, conditions=via_s3(self)),
        ]

    def _model(self, serving: Construct, role: WorkloadRole) -> sagemaker.CfnModel:
        served = self._served
        source = sagemaker.CfnModel.S3DataSourceProperty(
            s3_uri=f"s3://{self._data.models_bucket}/{self._artifact}",
            s3_data_type="S3Prefix",
            compression_type="None",
        )
        return sagemaker.CfnModel(
            serving,
            "Model",
            execution_role_arn=role.role_arn,
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image_uri(self, self._tenant, served.manifest.image),
                environment=dict(sorted(served.environment.items())),
                model_data_source=sagemaker.CfnModel.ModelDataSourceProperty(s3_data_source=source),
            ),
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                subnets=list(self._network.subnet_ids),
                security_group_ids=[self._network.security_group_ids[Workload.MODELS]],
            ),
        )

    def _variant(self, model: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        manifest, instance = self._served.manifest, self._served.instance
        # SageMaker's timeouts of a start. With an accelerator they are longer: such instances are scarce, 16
        # GB are read, and loading them onto cores takes up to half an hour.
        provision_s, download_s, startup_s = (
            (1800, 600, 600) if instance.accelerator == "cpu" else (3600, 1800, 3600)
        )
        return sagemaker.CfnEndpointConfig.ProductionVariantProperty(
            variant_name=SERVED_VARIANT,
            model_name=model.attr_model_name,
            instance_type=instance.name,
            initial_instance_count=self._tenant.models.min_instances,
            initial_variant_weight=1.0,
            inference_ami_version=manifest.ami,
            volume_size_in_gb=None if instance.has_local_disk else _volume_gb(manifest.weights_bytes),
            routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                routing_strategy="LEAST_OUTSTANDING_REQUESTS"
            ),
            variant_instance_provision_timeout_in_seconds=provision_s,
            model_data_download_timeout_in_seconds=download_s,
            container_startup_health_check_timeout_in_seconds=startup_s,
            enable_ssm_access=False,
        )

    def _config(self, serving: Construct, model: sagemaker.CfnModel) -> sagemaker.CfnEndpointConfig:
        """Create a configuration. It names no key where the instance has a local disk, which its hardware
        encrypts: SageMaker would refuse it."""
        has_local_disk = self._served.instance.has_local_disk
        return sagemaker.CfnEndpointConfig(
            serving,
            "Config",
            kms_key_id=None if has_local_disk else self._keys.models_key_arn,
            data_capture_config=self._capture(),
            production_variants=[self._variant(model)],
        )

    def _capture(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty | None:
        if self._capture_bucket is None:
            return None
        kinds = sagemaker.CfnEndpointConfig
        return kinds.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=self._tenant.models.capture_percent,
            destination_s3_uri=f"s3://{self._capture_bucket}/{self._served.task}/",
            kms_key_id=self._keys.capture_key_arn,
            capture_options=[
                kinds.CaptureOptionProperty(capture_mode=mode) for mode in self._served.captured
            ],
            # Content of a type named here is captured unchanged; any other in base64.
            capture_content_type_header=kinds.CaptureContentTypeHeaderProperty(
                json_content_types=["application/json"]
            ),
        )

    def _endpoint(
        self, serving: Construct, config: sagemaker.CfnEndpointConfig, alarms: list[cloudwatch.CfnAlarm]
    ) -> sagemaker.CfnEndpoint:
        kinds = sagemaker.CfnEndpoint
        endpoint = kinds(
            serving,
            "Endpoint",
            endpoint_name=self._served.endpoint_name,
            endpoint_config_name=config.attr_endpoint_config_name,
            retain_all_variant_properties=True,  # an update keeps the instance count that scaling has reached
            deployment_config=kinds.DeploymentConfigProperty(
                auto_rollback_configuration=kinds.AutoRollbackConfigProperty(
                    alarms=[kinds.AlarmProperty(alarm_name=alarm.ref) for alarm in alarms]
                ),
                blue_green_update_policy=kinds.BlueGreenUpdatePolicyProperty(
                    maximum_execution_timeout_in_seconds=_MAX_DEPLOYMENT_S,
                    termination_wait_in_seconds=_BAKE_S,
                    # In one step: a canary takes at most half of the instances, and there may be only one.
                    traffic_routing_configuration=kinds.TrafficRoutingConfigProperty(
                        type="ALL_AT_ONCE", wait_interval_in_seconds=_BAKE_S
                    ),
                ),
            ),
        )
        endpoint.cfn_options.condition = self._condition
        return endpoint

    def _scale(self, serving: Construct, endpoint: sagemaker.CfnEndpoint) -> None:
        models = self._tenant.models
        target = scaling.CfnScalableTarget(
            serving,
            "ScalableTarget",
            service_namespace="sagemaker",
            scalable_dimension="sagemaker:variant:DesiredInstanceCount",
            resource_id=f"endpoint/{self._served.endpoint_name}/variant/{SERVED_VARIANT}",
            min_capacity=models.min_instances,
            max_capacity=models.max_instances,
        )
        target.add_resource_dependency(endpoint)  # the resource id is a name, so it implies no order
        target.cfn_options.condition = self._condition
        kinds = scaling.CfnScalingPolicy
        policy = kinds(
            serving,
            "ScalingPolicy",
            policy_name="ConcurrentRequests",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=kinds.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=self._served.concurrent_requests,
                scale_in_cooldown=_SCALE_IN_S,
                scale_out_cooldown=_SCALE_OUT_S,
                predefined_metric_specification=kinds.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="SageMakerVariantConcurrentRequestsPerModelHighResolution"
                ),
            ),
        )
        policy.cfn_options.condition = self._condition

    def _alarm(
        self,
        serving: Construct,
        construct_id: str,
        metric: str,
        what: str,
        threshold: float,
        **statistic: str,
    ) -> cloudwatch.CfnAlarm:
        """Create an alarm that rolls a deployment back: the threshold reached in two of three minutes.

        ``what`` completes the description ("<endpoint> is slow"). ``statistic``: ``statistic="Sum"`` or
        ``extended_statistic="p90"``.
        """
        dimensions = {"EndpointName": self._served.endpoint_name, "VariantName": SERVED_VARIANT}
        group = endpoint_log_group(self._served.endpoint_name)
        happened = f"{self._served.endpoint_name} {what}: a deployment of it in progress is rolled back."
        alarm = cloudwatch.CfnAlarm(
            serving,
            construct_id,
            alarm_description=described(self, "new-endpoint-failing", log_group=group, happened=happened),
            namespace="AWS/SageMaker",
            metric_name=metric,
            dimensions=[
                cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)
                for name, value in dimensions.items()
            ],
            statistic=statistic.get("statistic"),
            extended_statistic=statistic.get("extended_statistic"),
            threshold=threshold,
            comparison_operator="GreaterThanOrEqualToThreshold",
            period=60,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            treat_missing_data="notBreaching",  # no calls at night, and a new endpoint has no data yet
        )
        alarm.cfn_options.condition = self._condition
        return alarm


def _artifact_prefix(scope: Construct, served: ServedModel) -> str:
    """Return ``<task>/<name>/<sha256>/``, the folder of the artifact in the models bucket; it never changes.

    Where the manifest has no hash yet, the hash is a parameter of the stack without default: synth and review
    need no artifact, and a deployment stops at once with the parameter's description.
    """
    name, sha256 = served.manifest.name, served.manifest.sha256
    if sha256 is None:
        how = f"model_artifacts/README.md says how {name} is made"
        if served.manifest.revision.startswith(f"{name}=="):  # adopted, from a row of jumpstart.lock.toml
            adopt = f"assistant models candidates --region {cdk.Stack.of(scope).region} --adopt {name}"
            how = f"where JumpStart is reached, run {adopt}"
        sha256 = cdk.CfnParameter(
            cdk.Stack.of(scope),
            f"{served.place}ArtifactSha256",
            type="String",
            allowed_pattern="^[0-9a-f]{64}$",
            description=f"SHA-256 of the packaged artifact {name}, written to its manifest.toml; {how}.",
            constraint_description=f"is 64 hexadecimal digits. {how[0].upper()}{how[1:]}.",
        ).value_as_string
    return f"{served.task}/{name}/{sha256}/"


def _volume_gb(weights_bytes: int) -> int:
    """Return the GB of an endpoint's volume, rounded up to 10: the artifact, as much again for what the
    container derives from it, and the image. 16.1e9 bytes of weights → 70."""
    return 10 * math.ceil((_SYSTEM_GB + 2 * weights_bytes / 1e9) / 10)


def _llm_environment(manifest: LlmManifest, *, instance: Instance) -> dict[str, str]:
    """Return the variables of the model's container. Raises ConfigurationError for an image of no chat model.

    ``SM_ON_<NAME>`` becomes ``optimum-cli neuron serve --<name>``, which refuses to start where a value
    differs from what the artifact was compiled with. ``SM_VLLM_<NAME>`` becomes vLLM's ``--<name>``.
    """
    batch, context, degree = (
        str(number) for number in (manifest.batch_size, manifest.sequence_length, manifest.tensor_parallel)
    )
    template = manifest.chat_template and str(_MODEL_FOLDER / manifest.chat_template)
    if manifest.image == "llm_neuronx":
        return _OFFLINE | {
            "SM_ON_MODEL": str(_MODEL_FOLDER),
            "SM_ON_SERVED_MODEL_NAME": manifest.served_name,
            "SM_ON_BATCH_SIZE": batch,
            "SM_ON_SEQUENCE_LENGTH": context,
            "SM_ON_TENSOR_PARALLEL_SIZE": degree,
            **({"SM_ON_CHAT_TEMPLATE": template} if template else {}),
        }
    if manifest.image == "llm_gpu":
        return _OFFLINE | {
            "SM_VLLM_MODEL": str(_MODEL_FOLDER),
            "SM_VLLM_SERVED_MODEL_NAME": manifest.served_name,
            "SM_VLLM_MAX_NUM_SEQS": batch,
            "SM_VLLM_MAX_MODEL_LEN": context,
            "SM_VLLM_TENSOR_PARALLEL_SIZE": degree,
            "SM_VLLM_DTYPE": manifest.dtype,
            "STANDARD_AUTO_INSTALL_REQ": "false",  # true installs what an artifact's requirements.txt names
            **({"SM_VLLM_CHAT_TEMPLATE": template} if template else {}),
        }
    if manifest.image == "model_server":
        (weights,) = manifest.files
        values = {
            "task": "generation",
            "path": _MODEL_FOLDER / weights,
            "slots": manifest.batch_size,
            "context_tokens": manifest.sequence_length,
            "threads": instance.vcpus,
        }
        return ModelServerSettings.variables(values)
    raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no chat model.")


def _embedding_environment(manifest: EmbeddingManifest) -> dict[str, str]:
    """Return the variables of the model's container. Raises ConfigurationError for an image of no embedding
    model."""
    if manifest.image != "embedding_tei_cpu":
        raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no embedding model.")
    return _OFFLINE | {
        "HF_MODEL_ID": str(_MODEL_FOLDER),
        "POOLING": manifest.pooling,
        "DTYPE": manifest.dtype,
        "MAX_CLIENT_BATCH_SIZE": str(_MAX_EMBEDDINGS_PER_REQUEST),
        "AUTO_TRUNCATE": "false",  # true by default from 1.9 on; an input is never cut silently
    }
