"""The company's path on every role and policy of a stage."""

from __future__ import annotations

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from constructs import IConstruct


def set_role_path(stage: cdk.Stage, *, path: str) -> None:
    """Put every role and managed policy of the stage under ``path`` (``/assistant/``)."""
    cdk.Aspects.of(stage).add(_RolePath(path))


@jsii.implements(cdk.IAspect)
class _RolePath:
    def __init__(self, path: str) -> None:
        self._path = path

    def visit(self, node: IConstruct) -> None:
        if isinstance(node, iam.CfnRole | iam.CfnManagedPolicy):
            node.path = self._path
