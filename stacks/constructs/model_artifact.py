"""Where a model artifact lies in the tenant's models bucket: below its own hash."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from assistant.settings.model_artifacts import EmbeddingManifest, LlmManifest


def artifact_prefix(scope: Construct, *, task: str, manifest: LlmManifest | EmbeddingManifest) -> str:
    """Return ``<task>/<name>/<sha256>/``; what lies there never changes.

    The hash of an artifact that was never packaged is a parameter of the stack without default: synth and
    review need no artifact, and a deployment stops at once and names it.
    """
    sha256 = manifest.sha256 or _asked_for(scope, task=task, name=manifest.name).value_as_string
    return f"{task}/{manifest.name}/{sha256}/"


def _asked_for(scope: Construct, *, task: str, name: str) -> cdk.CfnParameter:
    how = f"model_artifacts/README.md says how {name} is made"
    return cdk.CfnParameter(
        cdk.Stack.of(scope),
        f"{task.capitalize()}ArtifactSha256",
        type="String",
        allowed_pattern="^[0-9a-f]{64}$",
        description=f"SHA-256 of the packaged artifact {name}, written to its manifest.toml; {how}.",
        constraint_description=f"is 64 hexadecimal digits. {how[0].upper()}{how[1:]}.",
    )
