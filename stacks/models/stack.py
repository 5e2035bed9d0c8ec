"""The models stack: the SageMaker endpoints, and the power switch that removes them at night."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import aws_cdk as cdk
from constructs import Construct

from assistant.option import Place
from stacks.models.endpoint import ModelEndpoint, embedding_models, llm
from stacks.models.power import PowerMachines, PowerSwitch
from stacks.outputs import ModelsOutputs
from stacks.policy import QUARANTINE_BUCKET, exceptions, hipaa, wildcard
from stacks.processes import image_stamp
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, tenant_log_group

CONSTRUCTS = Place[Callable[[TenantStack, Foundation], None]]("constructs of the models stack")


class ModelsStack(TenantStack):
    def __init__(self, scope: Construct, *, foundation: Foundation) -> None:
        tenant = foundation.tenant
        super().__init__(scope, "Models", tenant=tenant, data_class="phi")
        condition = PowerSwitch(self, "Switch").has_endpoints
        for embedding in embedding_models(tenant):
            ModelEndpoint(self, embedding.place, served=embedding, foundation=foundation, condition=condition)
        if tenant.llm is not None:
            served = llm(tenant, tenant.llm)
            candidate = None if tenant.candidate is None else llm(tenant, tenant.candidate)
            written = ModelEndpoint(
                self, "Llm", served=served, foundation=foundation, condition=condition, candidate=candidate
            )
            for name, value in written.release_outputs.items():
                cdk.CfnOutput(self, name, value=value, description="For assistant models release.")
        for add in CONSTRUCTS.joined():
            add(self, foundation)
        machines = PowerMachines(
            self,
            "PowerMachines",
            foundation=foundation,
            log_group=tenant_log_group(
                self,
                "PowerLog",
                logs_key_arn=foundation.keys.logs_key_arn,
                name=tenant.power_log_group,
            ),
        )
        for verb, machine in (("Pause", machines.pause), ("Resume", machines.resume)):
            cdk.CfnOutput(
                self, f"{verb}Machine", value=machine.ref, description="For assistant aws pause and resume."
            )
        following = tenant.config.embedding_next
        self.outputs = ModelsOutputs(
            embedding_endpoint_name=tenant.config.embedding.endpoint,
            embedding_next_endpoint_name=following and following.endpoint,
            llm_endpoint_name=None if tenant.llm is None else tenant.config.generation.endpoint,
            power_parameter=tenant.power_parameter,
            pause_machine_arn=machines.pause.attr_arn,
            resume_machine_arn=machines.resume.attr_arn,
            model_stamp=_stamp(tenant),
        )


def _stamp(tenant: DeployedTenant) -> str:
    """Return a value that changes with the artifacts, their images and what they were compiled with."""
    parts = [
        part for manifest in tenant.served for part in (manifest.stamp(), image_stamp(tenant, manifest.image))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


_ENDPOINTS = ("Embedding", "EmbeddingNext", "Llm")

EXCEPTIONS = (
    *exceptions(
        (f"Models/{endpoint}/Role/Rights" for endpoint in _ENDPOINTS),
        wildcard("*", "arn:{partition}:ec2:{region}:{account}:network-interface/*"),
        "ECR's sign-in, metrics and EC2's Describe actions support no resources (Service Authorization "
        "Reference); metrics are restricted by namespace. A network interface has no id before SageMaker "
        "creates it: its subnets and security group restrict which.",
    ),
    *(
        row
        for endpoint in _ENDPOINTS
        for row in exceptions(
            f"Models/{endpoint}/Role/Rights",
            wildcard(f"arn:{{partition}}:s3:::{QUARANTINE_BUCKET}/{endpoint.lower().removesuffix('next')}/*"),
            "SageMaker names captured files by endpoint, hour and a number of its own. The role may only "
            "put, below one prefix of the bucket that only the redactor reads.",
        )
    ),
    *exceptions(
        "Models/Llm/Serving/Config",
        hipaa("SageMakerEndpointConfigurationKMSKeyConfigured"),
        "On an instance with local NVMe disks (GPU, Trainium) SageMaker refuses a configuration with a key "
        "(API reference, CreateEndpointConfig, KmsKeyId). The hardware encrypts those disks, by a key made "
        "at each start that never leaves it. Without local disks the key is set.",
    ),
    *exceptions(
        (f"Models/{endpoint}/Serving/{alarm}" for endpoint in _ENDPOINTS for alarm in ("Errors", "Latency")),
        hipaa("CloudWatchAlarmAction"),
        "SageMaker itself watches this alarm during a deployment and restores the old fleet. The alarms of "
        "the observability stack notify people.",
    ),
    *exceptions(
        "Models/PowerMachines/Switching/Rights",
        wildcard(
            "*",
            "arn:{partition}:lambda:{region}:{account}:event-source-mapping:*",
            "arn:{partition}:sqs:{region}:{account}:*",
        ),
        "Delivery of a state machine's log and X-Ray support no resources (Step Functions developer guide). "
        "Queues and their event source mappings belong to a stack that is deployed later: the tenant's tag "
        "restricts which, and only their state is read or switched.",
        decision="0018-a-parameter-switches-the-endpoints",
    ),
)
