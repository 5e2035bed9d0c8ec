"""AWS's own policies that matter to the checks, as far as they do ("AWS managed policies" reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from template_checks.policies import Statement, statements
from template_checks.values import Value

AWS_OWN = ":aws:policy/"
_PULL = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
)
_WRITE_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_SESSION = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
_SAGEMAKER_BUCKETS = ("arn:aws:s3:::*SageMaker*", "arn:aws:s3:::*Sagemaker*", "arn:aws:s3:::*sagemaker*")
_ON_EVERYTHING: Mapping[str, tuple[str, ...]] = {
    "AdministratorAccess": ("*",),
    "AmazonDynamoDBFullAccess": ("dynamodb:*",),
    "AmazonEC2ContainerRegistryFullAccess": ("ecr:*",),
    "AmazonEC2ContainerRegistryPowerUser": (*_PULL, "ecr:PutImage"),
    "AmazonEC2ContainerRegistryPullOnly": _PULL,
    "AmazonEC2ContainerRegistryReadOnly": _PULL,
    "AmazonECSTaskExecutionRolePolicy": (*_PULL, "logs:CreateLogStream", "logs:PutLogEvents"),
    "AmazonS3FullAccess": ("s3:*",),
    "AmazonS3ReadOnlyAccess": ("s3:Get*", "s3:List*"),
    "AmazonSNSFullAccess": ("sns:*",),
    "AmazonSQSFullAccess": ("sqs:*",),
    "AmazonSSMManagedInstanceCore": _SESSION,
    "AmazonSSMReadOnlyAccess": ("ssm:Describe*", "ssm:Get*", "ssm:List*"),
    "AWSLambdaBasicExecutionRole": _WRITE_LOGS,
    "AWSLambdaVPCAccessExecutionRole": _WRITE_LOGS,
    "AWSXRayDaemonWriteAccess": ("xray:*",),
    "AWSXrayWriteOnlyAccess": ("xray:*",),
    "CloudWatchAgentServerPolicy": _WRITE_LOGS,
    "CloudWatchLogsFullAccess": ("logs:*",),
    "SecretsManagerReadWrite": ("secretsmanager:*",),
}


def statements_of_managed(arn: str) -> list[Statement] | None:
    """Return what one of AWS's own policies allows; None where it is not known here, or is not AWS's."""
    name = arn.rpartition("/")[2] if AWS_OWN in arn else ""
    if name == "PowerUserAccess":
        return _statements({"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"]})
    if name == "AmazonSageMakerFullAccess":
        return _statements(
            {"Effect": "Allow", "Action": [*_PULL, *_WRITE_LOGS, "cloudwatch:*"], "Resource": "*"},
            {
                "Effect": "Allow",
                "Action": ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
                "Resource": [*_SAGEMAKER_BUCKETS],
            },
        )
    if name not in _ON_EVERYTHING:
        return None
    return _statements({"Effect": "Allow", "Action": [*_ON_EVERYTHING[name]], "Resource": "*"})


def _statements(*entries: dict[str, str | list[str]]) -> list[Statement]:
    return statements(cast("Value", {"Statement": [*entries]}))
