"""Exceptions of the learning stack."""

from __future__ import annotations

from stacks.policy import (
    CAPTURE_BUCKET,
    LABELS_BUCKET,
    NO_REPLICATION,
    TEXTS_BUCKET,
    exceptions,
    of_data_stack,
    wildcard,
)

_S3 = "arn:<AWS::Partition>:s3:::"
_ACCOUNT = "{region}:{account}"
_JOBS = ("Learning/Preparing", "Learning/Training")
_FOLDERS = (
    "A job reads whole stores (feedback and clean capture to prepare, models to train) and writes one "
    "folder, whose objects it names."
)

EXCEPTIONS = (
    *exceptions(
        "Learning/Preparing",
        wildcard(
            f"{_S3}{CAPTURE_BUCKET}/*",
            f"{_S3}{LABELS_BUCKET}/*",
            f"{_S3}{TEXTS_BUCKET}/*",
            f"{_S3}<TrainingBucket>/sets/*",
        ),
        _FOLDERS,
    ),
    *exceptions(
        "Learning/Training",
        wildcard(
            f"{_S3}{of_data_stack('PublishOutputRefModelsBucket7DFDDE96')}/*",
            f"{_S3}<TrainingBucket>/sets/*",
            f"{_S3}<TrainingBucket>/checkpoints/*",
        ),
        _FOLDERS,
    ),
    *exceptions(
        _JOBS,
        wildcard("*"),
        "EC2's Describe actions, metrics and the registry's sign-in support no resources (Service "
        "Authorization Reference); metrics are restricted to SageMaker's own namespace.",
    ),
    *exceptions(
        _JOBS,
        wildcard(
            f"arn:aws:logs:{_ACCOUNT}:log-group:/aws/sagemaker/ProcessingJobs*",
            f"arn:aws:logs:{_ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs*",
            f"arn:aws:ecr:{_ACCOUNT}:repository/*",
            f"arn:aws:ec2:{_ACCOUNT}:network-interface/*",
        ),
        "The log groups that SageMaker has for all jobs of an account; images of this account, of which the "
        "caller names one when a job starts; interfaces, which have no id before SageMaker creates them: "
        "their subnets and security group restrict which.",
    ),
    *exceptions(
        "Learning/TrainingBucket",
        NO_REPLICATION,
        "Training sets and checkpoints are made again from feedback and capture, and expire; a copy in a "
        "second region is a second place to withdraw from.",
    ),
)
