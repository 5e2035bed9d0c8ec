"""Findings that stay in the orchestrator stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_ANY = "AwsSolutions::AwsSolutions-IAM5[Resource::*]"
_DOCUMENTS_BUCKET = (
    '{"Fn::GetStackOutput":{"StackName":"{stage}-Data","Region":"{region}",'
    '"OutputName":"PublishOutputRefDocumentsBucketC67A8896"}}'
)

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=("HIPAA.Security::HIPAA.Security-IAMNoInlinePolicy",),
        reason=(
            "The rights of exactly this role, made and deleted with it. A managed policy could be attached "
            "to another role by whoever may attach policies."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/ExecutionRole/DefaultPolicy",
        findings=("HIPAA.Security::HIPAA.Security-IAMNoInlinePolicy",),
        reason="As for the task's role: the rights of exactly one role, made and deleted with it.",
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=(_ANY,),
        reason=(
            "xray:PutTraceSegments, which knows no resources: spans of ids, sizes and times, without text. "
            "With ECS Exec asked for in the tenant file, the channels of ssmmessages too, which know none."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=(
            f"AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:s3:::{_DOCUMENTS_BUCKET}/documents/*]",
        ),
        reason=(
            "The tenant's documents, whose names are hashes of ids: the service reads, adds and withdraws "
            "any of them, and nothing outside this prefix."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/ExecutionRole/DefaultPolicy",
        findings=(_ANY,),
        reason=(
            "ecr:GetAuthorizationToken, which knows no resources: the token opens what the role's other "
            "statement names, two repositories."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Definition",
        findings=("AwsSolutions::AwsSolutions-ECS2",),
        reason=(
            "Names, addresses and numbers, made by the settings class that reads them: seen in every review, "
            "and a change of one rolls the tasks. The only secret, of document links, is none of them: the "
            "task has KMS decrypt it at its start."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/DeploymentFailures",
        findings=("HIPAA.Security::HIPAA.Security-CloudWatchAlarmAction",),
        reason=(
            "Its action is ECS's own: the deployment in progress reads this alarm and rolls back. People are "
            "told by the alarms of the observability stack."
        ),
        decision="0019-tasks-on-fargate",
    ),
)
