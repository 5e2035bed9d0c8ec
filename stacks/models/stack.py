"""Where a model artifact lies in the tenant's models bucket: below its own hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import aws_cdk as cdk
from constructs import Construct

from assistant.settings.model_artifacts import (
    DEFAULT_INSTANCES,
    EmbeddingManifest,
    Instance,
    LlmManifest,
    instance_named,
)
from stacks.models.endpoint import (
    Capture,
    CaptureMode,
    EndpointPlan,
    ModelEndpoint,
    Waits,
    embedding_environment,
    llm_environment,
)
from stacks.models.permissions import (
    ModelRole,
    artifact_statements,
    capture_bucket,
    capture_statements,
    serving_statements,
)
from stacks.models.power import PowerMachines, PowerSwitch
from stacks.outputs import DataOutputs, KeysOutputs, ModelsOutputs, NetworkOutputs, Workload
from stacks.policy import Acknowledgement
from stacks.processes import image_stamp, image_uri
from stacks.roles import Duty, tag_duty
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack, tenant_log_group


def artifact_prefix(scope: Construct, *, task: str, manifest: LlmManifest | EmbeddingManifest) -> str:
    """Return ``<task>/<name>/<sha256>/``; what lies there never changes.

    The hash of an artifact that was never packaged is a parameter of the stack without default: synth and
    review need no artifact, and a deployment stops at once and names it.
    """
    sha256 = manifest.sha256 or _asked_for(scope, task=task, name=manifest.name).value_as_string
    return f"{task}/{manifest.name}/{sha256}/"


def _asked_for(scope: Construct, *, task: str, name: str) -> cdk.CfnParameter:
    how = f"model_artifacts/README.md says how {name} is made"
    return cdk.CfnParameter(
        cdk.Stack.of(scope),
        f"{task.capitalize()}ArtifactSha256",
        type="String",
        allowed_pattern="^[0-9a-f]{64}$",
        description=f"SHA-256 of the packaged artifact {name}, written to its manifest.toml; {how}.",
        constraint_description=f"is 64 hexadecimal digits. {how[0].upper()}{how[1:]}.",
    )


# The models stack: two endpoints, and the switch that takes them away at night.


_ACCELERATED = Waits(provision=3600, download=1800, startup=3600)
"""An accelerator is scarce, 16 GB are read, and loading them onto cores takes up to half an hour."""
_ON_CPU = Waits(provision=1800, download=600, startup=600)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """What differs between the two endpoints."""

    task: Literal["embedding", "llm"]
    endpoint_name: str
    manifest: EmbeddingManifest | LlmManifest
    instance: Instance
    environment: dict[str, str]
    concurrent_requests: int
    slow_ms: int
    slow_metric: Literal["ModelLatency", "FirstChunkModelLatency"]
    captured: tuple[CaptureMode, ...]
    """What of a call is captured; nothing when empty."""

    @property
    def capture_prefix(self) -> str:
        return f"{self.task}/"


class ModelsStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="models")
        self._keys = keys
        self._network = network
        self._data = data
        self._switch = PowerSwitch(self, "Switch", tenant=tenant)
        self._serve("Embedding", _embedding(tenant))
        self._serve("Llm", _llm(tenant))
        machines = PowerMachines(
            self,
            "PowerMachines",
            tenant=tenant,
            log_group=tenant_log_group(
                self,
                "PowerLog",
                tenant=tenant,
                logs_key_arn=keys.logs_key_arn,
                # For any other group Step Functions writes itself into a log resource policy of the
                # account, of 5,120 characters: where many machines log, it is full, and they are refused.
                name=f"/aws/vendedlogs/{tenant.place.name_prefix}-{tenant.name}-power",
            ),
        )
        for verb, machine in (("Pause", machines.pause), ("Resume", machines.resume)):
            cdk.CfnOutput(
                self, f"{verb}Machine", value=machine.attr_arn, description="Start it by hand, too."
            )
        self.outputs = ModelsOutputs(
            embedding_endpoint_name=tenant.config.embedding.endpoint,
            llm_endpoint_name=tenant.config.generation.endpoint,
            power_parameter=tenant.power_parameter,
            pause_machine_arn=machines.pause.attr_arn,
            resume_machine_arn=machines.resume.attr_arn,
            model_stamp=_stamp(tenant),
        )

    def _serve(self, construct_id: str, serving: _Serving) -> None:
        tenant, keys, data = self.tenant, self._keys, self._data
        scope = Construct(self, construct_id)
        bucket = capture_bucket(tenant, data) if serving.captured else None
        prefix = artifact_prefix(scope, task=serving.task, manifest=serving.manifest)
        log_group = tenant_log_group(
            scope,
            "Log",
            tenant=tenant,
            logs_key_arn=keys.logs_key_arn,
            # SageMaker's choice; it would make the group itself, without key and for ever.
            name=f"/aws/sagemaker/Endpoints/{serving.endpoint_name}",
        )
        statements = [
            *serving_statements(
                scope,
                tenant=tenant,
                image=serving.manifest.image,
                log_group_arn=log_group.log_group_arn,
                network=self._network,
            ),
            *artifact_statements(
                scope,
                bucket=data.models_bucket,
                prefix=prefix,
                files=serving.manifest.files,
                key_arn=keys.models_key_arn,
            ),
        ]
        if bucket is not None:
            statements += capture_statements(scope, bucket=bucket, prefix=serving.capture_prefix, keys=keys)
        role = ModelRole(scope, "Role", endpoint_name=serving.endpoint_name, statements=statements)
        if bucket is not None:
            tag_duty(role, Duty.CAPTURE_WRITER)
        ModelEndpoint(
            scope,
            "Serving",
            plan=self._plan(serving, scope=scope, prefix=prefix, bucket=bucket),
            role=role,
            stands=self._switch.stands,
        )

    def _plan(self, serving: _Serving, *, scope: Construct, prefix: str, bucket: str | None) -> EndpointPlan:
        models = self.tenant.models
        capture = bucket and Capture(
            uri=f"s3://{bucket}/{serving.capture_prefix}",
            key_arn=self._keys.capture_key_arn,
            percent=models.capture_percent,
            modes=serving.captured,
        )
        return EndpointPlan(
            name=serving.endpoint_name,
            image_uri=image_uri(scope, self.tenant, serving.manifest.image),
            environment=serving.environment,
            artifact_uri=f"s3://{self._data.models_bucket}/{prefix}",
            weights_bytes=serving.manifest.weights_bytes,
            instance=serving.instance,
            ami=serving.manifest.ami,
            waits=_ON_CPU if serving.instance.accelerator == "cpu" else _ACCELERATED,
            min_instances=models.min_instances,
            max_instances=models.max_instances,
            concurrent_requests=serving.concurrent_requests,
            slow_ms=serving.slow_ms,
            slow_metric=serving.slow_metric,
            capture=capture or None,
            volume_key_arn=self._keys.models_key_arn,
            subnet_ids=self._network.subnet_ids,
            security_group_id=self._network.security_group_ids[Workload.MODELS],
        )


def _embedding(tenant: DeployedTenant) -> _Serving:
    manifest = tenant.embedding
    instance = instance_named(tenant.models.embedding_instance or DEFAULT_INSTANCES[manifest.accelerator])
    return _Serving(
        task="embedding",
        endpoint_name=tenant.config.embedding.endpoint,
        manifest=manifest,
        instance=instance,
        environment=embedding_environment(manifest, instance=instance),
        concurrent_requests=max(2, 2 * instance.vcpus),
        slow_ms=2000,
        slow_metric="ModelLatency",
        captured=_embedding_captured(tenant),
    )


def _embedding_captured(tenant: DeployedTenant) -> tuple[CaptureMode, ...]:
    """Texts, not vectors: those teach nothing and are many times as large.

    One share holds for the whole endpoint, and passages come in thousands: the redactor drops them. Where raw
    capture is kept, nobody would.
    """
    models = tenant.models
    is_wanted = models.capture != "direct" or models.capture_passages_percent == 100
    return ("Input",) if is_wanted else ()


def _llm(tenant: DeployedTenant) -> _Serving:
    manifest = tenant.llm
    instance = instance_named(tenant.models.llm_instance or DEFAULT_INSTANCES[manifest.accelerator])
    return _Serving(
        task="llm",
        endpoint_name=tenant.config.generation.endpoint,
        manifest=manifest,
        instance=instance,
        environment=llm_environment(manifest, instance=instance),
        # Three quarters of what it was compiled for: another instance takes many minutes.
        concurrent_requests=max(1, manifest.batch_size * 3 // 4),
        slow_ms=10_000,
        slow_metric="FirstChunkModelLatency",  # the whole of a stream is as long as its answer
        captured=("Input", "Output"),
    )


def _stamp(tenant: DeployedTenant) -> str:
    """Changes with anything that consumers must know of: artifact, image, what it was compiled with."""
    parts = [
        part
        for manifest in (tenant.llm, tenant.embedding)
        for part in (manifest.stamp(), image_stamp(tenant, manifest.image))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


# Findings that stay in the models stack, each with its reason.


_ENDPOINTS = ("Embedding", "Llm")
_POWER = "0018-a-parameter-switches-the-endpoints"

EXCEPTIONS: tuple[Acknowledgement, ...] = (
    *(
        Acknowledgement(
            construct=f"Models/{endpoint}/Role/Rights",
            findings=(
                "AwsSolutions::AwsSolutions-IAM5[Resource::*]",
                "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:ec2:{region}:{account}:network-interface/*]",
            ),
            reason=(
                "ECR's sign-in, metrics and EC2's Describe actions know no resources (Service Authorization "
                "Reference); metrics are bound by namespace. A network interface has no id before SageMaker "
                "makes it: its subnets and security group bound which."
            ),
        )
        for endpoint in _ENDPOINTS
    ),
    *(
        Acknowledgement(
            construct=f"Models/{endpoint}/Role/Rights",
            findings=(
                'AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:s3:::{"Fn::GetStackOutput":{"StackName":'
                '"{stage}-Data","Region":"{region}","OutputName":"PublishOutputRefQuarantineBucket320A5204"}}'
                f"/{endpoint.lower()}/*]",
            ),
            reason=(
                "SageMaker names captured files by endpoint, hour and a number of its own. The role may only "
                "put, below one prefix of the bucket that only the redactor reads."
            ),
        )
        for endpoint in _ENDPOINTS
    ),
    Acknowledgement(
        construct="Models/Llm/Serving/Config",
        findings=("HIPAA.Security::HIPAA.Security-SageMakerEndpointConfigurationKMSKeyConfigured",),
        reason=(
            "On an instance with local NVMe disks (GPU, Trainium) SageMaker refuses a configuration with a "
            "key (API reference, CreateEndpointConfig, KmsKeyId). The hardware encrypts those disks, by a "
            "key made at each start that never leaves it. Without local disks the key is set."
        ),
    ),
    *(
        Acknowledgement(
            construct=f"Models/{endpoint}/Serving/{alarm}",
            findings=("HIPAA.Security::HIPAA.Security-CloudWatchAlarmAction",),
            reason=(
                "SageMaker itself watches this alarm while a new fleet takes over, and brings the old one "
                "back. People are told by the alarms of the observability stack."
            ),
        )
        for endpoint in _ENDPOINTS
        for alarm in ("Errors", "Latency")
    ),
    Acknowledgement(
        construct="Models/PowerMachines/Switching/Rights",
        findings=(
            "AwsSolutions::AwsSolutions-IAM5[Resource::*]",
            "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:lambda:{region}:{account}:event-source-mapping:*]",
            "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:sqs:{region}:{account}:*]",
        ),
        reason=(
            "Delivery of a state machine's log and X-Ray know no resources (Step Functions developer guide). "
            "Queues and their event source mappings belong to a stack that is deployed later: the tenant's "
            "tag bounds which, and only their state is read or switched."
        ),
        decision=_POWER,
    ),
)
