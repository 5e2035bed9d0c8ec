"""The registry's places for our own images, as ``images.lock.toml`` names them."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from constructs import Construct

from assistant.settings.images import ImageLock

_UNTAGGED_DAYS = 14
"""What a broken push leaves. What has a tag stays: a deployment pins digests, and goes back to old ones."""


class ImageRepositories(Construct):
    """One repository an image that is kept in the deployment account, scanned on push, tags never moved."""

    def __init__(self, scope: Construct, construct_id: str, *, images: ImageLock, key: kms.IKey) -> None:
        super().__init__(scope, construct_id)
        for name, image in images.images.items():
            if not image.is_own:
                continue
            ecr.Repository(
                self,
                "".join(part.capitalize() for part in name.split("_")),
                repository_name=image.repository,
                image_scan_on_push=True,
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=key,
                lifecycle_rules=[
                    ecr.LifecycleRule(
                        description="What a broken push leaves",
                        tag_status=ecr.TagStatus.UNTAGGED,
                        max_image_age=cdk.Duration.days(_UNTAGGED_DAYS),
                    )
                ],
            )
