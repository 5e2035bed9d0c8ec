"""Findings that stay in the learning stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_FOLDERS = (
    "What is read is whole stores, feedback and clean capture to prepare, models to train; what is written "
    "is one folder, whose objects the job names."
)
_PLATFORM = (
    "EC2's Describe actions, metrics and the registry's sign-in know no resources (Service Authorization "
    "Reference); metrics are bound to SageMaker's own namespace."
)


def _object_of(output: str) -> str:
    """Return the finding on a bucket of the data stack, by the output that a weak reference reads."""
    return (
        'AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{"Fn::GetStackOutput":'
        f'{{"StackName":"{{stage}}-Data","Region":"{{region}}","OutputName":"{output}"}}}}/*]'
    )


def _folder(path: str) -> str:
    return f"AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{path}*]"


_ANY = "AwsSolutions::AwsSolutions-IAM5[Resource::*]"
_LINES = tuple(
    "AwsSolutions::AwsSolutions-IAM5"
    f"[Resource::arn:aws:logs:{{region}}:{{account}}:log-group:/aws/sagemaker/{kind}Jobs*]"
    for kind in ("Processing", "Training")
)
_INTERFACES = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:ec2:{region}:{account}:network-interface/*]"
_IMAGES = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:ecr:{region}:{account}:repository/*]"

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Learning/Preparing",
        findings=(
            _object_of("PublishOutputRefCaptureBucket9F69268F"),
            _object_of("PublishOutputRefFeedbackBucketFBCD54F6"),
            _folder("<TrainingBucket>/sets/"),
        ),
        reason=_FOLDERS,
    ),
    Acknowledgement(
        construct="Learning/Training",
        findings=(
            _object_of("PublishOutputRefModelsBucket7DFDDE96"),
            _folder("<TrainingBucket>/sets/"),
            _folder("<TrainingBucket>/checkpoints/"),
        ),
        reason=_FOLDERS,
    ),
    *(
        Acknowledgement(construct=f"Learning/{job}", findings=(_ANY,), reason=_PLATFORM)
        for job in ("Preparing", "Training")
    ),
    *(
        Acknowledgement(
            construct=f"Learning/{job}",
            findings=(*_LINES, _IMAGES, _INTERFACES),
            reason="The log groups that SageMaker has for all jobs of an account; images of this account, of "
            "which one is said when a job is started; interfaces, which have no id before SageMaker makes "
            "them: their subnets and security group bound which.",
        )
        for job in ("Preparing", "Training")
    ),
    Acknowledgement(
        construct="Learning/TrainingBucket",
        findings=("HIPAA.Security::HIPAA.Security-S3BucketReplicationEnabled",),
        reason="Training sets and checkpoints are made anew of feedback and capture, and go after their "
        "time; a copy in a second region is a second place to withdraw from.",
    ),
)
