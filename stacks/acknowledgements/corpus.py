"""Findings that stay in the corpus stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_S3 = "AwsSolutions::AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::"

ROWS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Corpus/Job",
        findings=(
            _S3 + '{"Fn::GetStackOutput":{"StackName":"{stage}-Data","Region":"{region}",'
            '"OutputName":"PublishOutputRefDocumentsBucketC67A8896"}}/*]',
            _S3 + "<CorpusBucket>/corpora/*]",
            _S3 + "<CorpusBucket>/logs/*]",
        ),
        reason="A corpus is made of all documents: read is the whole store of them, written are two folders "
        "of one bucket, whose objects the job names.",
    ),
    Acknowledgement(
        construct="Corpus/CorpusBucket",
        findings=("HIPAA.Security::HIPAA.Security-S3BucketReplicationEnabled",),
        reason="A corpus is made anew of the documents, and goes after 90 days; a copy in a second region "
        "is a second place to withdraw from.",
    ),
)
