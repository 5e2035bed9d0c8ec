"""Exceptions of the learning stack."""

from __future__ import annotations

from stacks.policy import (
    ANY_RESOURCE,
    CAPTURE_BUCKET,
    DOCUMENTS_BUCKET,
    LABELS_BUCKET,
    LAMBDA_PLATFORM,
    NO_REPLICATION,
    OWN_INLINE_POLICY,
    TEXTS_BUCKET,
    exceptions,
    hipaa,
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
        "Learning/Functions",
        (hipaa("LambdaConcurrency"), "checkov::CKV_AWS_115"),
        "A schedule calls them one by one, and two at once do no harm: files are never written over, and of "
        "two releases one is refused. An account begins with ten concurrent functions, of which none can be "
        "reserved: with a reservation the first deployment would fail.",
        decision="0050-feedback-on-aws",
    ),
    *exceptions(
        "Learning/Functions",
        (hipaa("LambdaDLQ"), "checkov::CKV_AWS_116"),
        "The call of a schedule holds nothing to keep: what is to be moved or learned waits in its store, "
        "and the next call takes it.",
    ),
    *exceptions(
        (f"Learning/Functions/{role}Role/DefaultPolicy" for role in ("Move", "Learn")),
        hipaa("IAMNoInlinePolicy"),
        OWN_INLINE_POLICY,
    ),
    *exceptions(
        (f"Learning/Functions/{function}/Platform" for function in ("Move", "Learn")),
        ANY_RESOURCE,
        LAMBDA_PLATFORM,
    ),
    *exceptions(
        "Learning/Functions/MoveRole/DefaultPolicy",
        wildcard(
            f"arn:aws:s3:::{DOCUMENTS_BUCKET}/documents/*",
            f"arn:aws:s3:::{LABELS_BUCKET}/events/*",
            f"arn:aws:s3:::{TEXTS_BUCKET}/texts/*",
        ),
        "The mover reads the documents that answers showed, whose names are hashes of ids, puts labels and "
        "sealed texts, whose names are hashes of their content, and lists the texts that an erasure made "
        "unreadable: one folder of each bucket.",
    ),
    *exceptions(
        "Learning/Functions/LearnRole/DefaultPolicy",
        wildcard(f"arn:aws:s3:::{LABELS_BUCKET}/events/*"),
        "Labels of a window of days, named by the hash of their content: the learner reads any of them, and "
        "no text.",
    ),
    *exceptions(
        "Learning/TrainingBucket",
        NO_REPLICATION,
        "Training sets and checkpoints are made again from feedback and capture, and expire; a copy in a "
        "second region is a second place to withdraw from.",
    ),
)
