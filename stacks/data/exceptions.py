"""Findings that stay in the data stack, each with its reason."""

from __future__ import annotations

from stacks.policy import Acknowledgement

_DEV = (
    "A sandbox has one small node, by its profile: what it holds can be ingested again, and nobody waits for "
    "it. standard and hipaa have several zones and three dedicated masters."
)
EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Data/Buckets",
        findings=("HIPAA.Security::HIPAA.Security-S3BucketReplicationEnabled",),
        reason=(
            "A copy in a second region is a second place to withdraw a document from, and not every company "
            "may hold patients' data there. Versions undo mistakes; after the loss of a region the knowledge "
            "is ingested again from its sources."
        ),
    ),
    Acknowledgement(
        construct="Data/Buckets/LogsBucket",
        findings=("HIPAA.Security::HIPAA.Security-S3DefaultEncryptionKMS",),
        reason=(
            "Load balancers and S3's own access logs can write to SSE-S3 alone (Elastic Load Balancing and "
            "Amazon S3 user guides, access logs). They hold addresses and paths, never a question."
        ),
    ),
    Acknowledgement(
        construct="Data/Buckets/LogsBucket",
        findings=("checkov::CKV_AWS_18",),
        reason="It is where access logs go: its own would be logs of the delivery of logs, without an end.",
    ),
    Acknowledgement(
        construct="Data/Tables",
        findings=("HIPAA.Security::HIPAA.Security-DynamoDBInBackupPlan",),
        reason=(
            "Point-in-time recovery covers every second of 35 days. A backup plan would keep what was "
            "withdrawn for longer than any receipt of a withdrawal could say."
        ),
    ),
    Acknowledgement(
        construct="Data/Tables/EventsTable",
        findings=(
            "AwsSolutions::AwsSolutions-DDB3",
            "checkov::CKV_AWS_28",
            "HIPAA.Security::HIPAA.Security-DynamoDBPITREnabled",
        ),
        reason=(
            "It holds events of running answers, which expire after 15 minutes: with recovery their text "
            "would live for 35 days more."
        ),
        decision="0009-three-dynamodb-tables",
    ),
    Acknowledgement(
        construct="Data/SchemaPlatform",
        findings=("AwsSolutions::AwsSolutions-IAM5[Resource::*]", "checkov::CKV_AWS_111"),
        reason=(
            "Lambda makes network interfaces with the function's role; those actions and X-Ray's know no "
            "resources (Service Authorization Reference). The function's own code is denied the former."
        ),
    ),
    Acknowledgement(
        construct="Data/SchemaPlatform",
        findings=(
            "AwsSolutions::AwsSolutions-IAM5"
            "[Resource::arn:aws:logs:{region}:{account}:log-group:{stage}-*:*]",
        ),
        reason=(
            "The function and its log group are the ingestion stack's, which comes later: the tenant's own "
            "groups, and in them the right to write lines alone."
        ),
    ),
    Acknowledgement(
        construct="Data/SetUp",
        findings=(
            "AwsSolutions::AwsSolutions-IAM5[Action::es:ESHttp*]",
            "AwsSolutions::AwsSolutions-IAM5[Resource::<Search.Arn>/*]",
        ),
        reason=(
            "The master of one domain: all HTTP methods on all paths of it. What it does with them is one "
            "function's code, and no other identity has this role."
        ),
    ),
    Acknowledgement(
        construct="Data/ArtifactPublisher",
        findings=(
            "AwsSolutions::AwsSolutions-IAM5[Resource::<ModelsBucket.Arn>/llm/*]",
            "AwsSolutions::AwsSolutions-IAM5[Resource::<ModelsBucket.Arn>/embedding/*]",
            "AwsSolutions::AwsSolutions-IAM5[Resource::<ModelsBucket.Arn>/callers/*]",
        ),
        reason=(
            "An artifact lies below its hash, which is not known before it is made: the three folders of "
            "artifacts, in which the role adds and reads and deletes nothing."
        ),
    ),
    Acknowledgement(
        construct="Data/Search/Domain",
        findings=("AwsSolutions::AwsSolutions-OS3",),
        reason=(
            "Addresses are the security group's matter: the domain stands in the VPC, where the groups of "
            "those that search and ingest reach it and nothing else does. Its policy lets one role in."
        ),
    ),
    Acknowledgement(
        construct="Data/Search/Domain",
        findings=("AwsSolutions::AwsSolutions-OS4", "AwsSolutions::AwsSolutions-OS7"),
        reason=_DEV,
    ),
)
