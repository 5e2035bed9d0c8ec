"""Findings that stay in the models stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_ENDPOINTS = ("Embedding", "Llm")
_POWER = "0018-a-parameter-switches-the-endpoints"

ROWS: tuple[Acknowledgement, ...] = (
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
