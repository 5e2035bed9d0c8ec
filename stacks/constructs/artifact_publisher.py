"""Who puts model artifacts into the tenant's models bucket: a build of the company's takes this role."""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from assistant.settings.model_artifacts import CALLERS_PREFIX
from stacks.constructs.tenant_principals import Duty, tag_duty
from stacks.tenant import DeployedTenant

PREFIXES = ("llm/", "embedding/", CALLERS_PREFIX)
"""Folders of the bucket: artifacts by task, and what callers of the endpoints need of them."""


class ArtifactPublisher(iam.Role):
    """It adds and reads, and deletes nothing: what an endpoint serves stays, and can be gone back to.

    No role of the VPC's: builds run elsewhere, and no endpoint follows from its rights.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, bucket: s3.IBucket, key_arn: str
    ) -> None:
        named = [iam.ArnPrincipal(arn) for arn in tenant.place.artifact_publishers]
        super().__init__(
            scope,
            construct_id,
            assumed_by=cast("iam.IPrincipal", iam.CompositePrincipal(*cast("list[iam.IPrincipal]", named))),
            description="Puts model artifacts into the models bucket",
        )
        tag_duty(self, Duty.PUBLISHER)
        iam.CfnManagedPolicy(
            self,
            "Publishing",
            description="Model artifacts: put, and read again",
            roles=[self.role_name],
            policy_document=iam.PolicyDocument(
                statements=[*_put_and_read(bucket), _through_s3(scope, key_arn=key_arn)]
            ),
        )


def _put_and_read(bucket: s3.IBucket) -> list[iam.PolicyStatement]:
    return [
        iam.PolicyStatement(
            actions=["s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject"],
            resources=[bucket.arn_for_objects(f"{prefix}*") for prefix in PREFIXES],
        ),
        iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in PREFIXES]}},
        ),
    ]


def _through_s3(scope: Construct, *, key_arn: str) -> iam.PolicyStatement:
    """S3 decrypts the parts of a large upload when it joins them: "Uploading and copying objects using
    multipart upload", Amazon S3 user guide."""
    return iam.PolicyStatement(
        actions=["kms:GenerateDataKey", "kms:Decrypt"],
        resources=[key_arn],
        conditions={"StringEquals": {"kms:ViaService": f"s3.{cdk.Stack.of(scope).region}.amazonaws.com"}},
    )
