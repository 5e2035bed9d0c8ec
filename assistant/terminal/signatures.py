"""Signatures of container images: cosign writes them beside an image, and verifies them before a deployment.

The key is the company's: a file, or a key of KMS (``awskms:///ARN``). Nothing goes into a transparency log,
which would publish the names of private images.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.terminal.account import Templates

_LIMIT_S = 300
_HOW_IMAGES_ARE_NAMED = frozenset({"Image", "ImageUri"})
"""Properties of CloudFormation: of a container or a model, and of a function or a Spark application."""
_FIXED = re.compile(r"@sha256:[0-9a-f]{64}$")
_NO_SERVICES = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"}
"""Signing configuration of cosign 3 without transparency log, certificate authority and time stamps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosign:
    """Runs cosign 3 with one key. Each call raises ConfigurationError where there is no cosign."""

    key: str
    """``awskms:///ARN`` for both, else a file: the private key to sign, the public key to verify."""
    logins: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]], repr=False)
    """Registry's host = user and password; Docker's where there is none."""

    def sign(self, image: str) -> None:
        """Put a signature of an image, named by digest, beside it. Raises DeploymentError."""
        with tempfile.TemporaryDirectory() as folder:
            services = Path(folder) / "signing.json"
            services.write_text(json.dumps(_NO_SERVICES), encoding="utf-8")
            refused = self._refusal(["sign", "--yes", "--signing-config", str(services)], image)
        if refused is not None:
            raise DeploymentError(f"cosign cannot sign {image} with {self.key}: {refused}")

    def refusal(self, image: str) -> str | None:
        """Return why an image, named by digest, has no valid signature by the key; None where it has one."""
        return self._refusal(["verify", "--insecure-ignore-tlog=true"], image)

    def _refusal(self, arguments: Sequence[str], image: str) -> str | None:
        command = ["cosign", *arguments, "--key", self.key, image]
        given = dict(os.environ)
        with tempfile.TemporaryDirectory() as folder:
            if self.logins:
                auths = {
                    host: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
                    for host, (user, password) in self.logins.items()
                }
                (Path(folder) / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")
                given["DOCKER_CONFIG"] = folder
            try:
                done = subprocess.run(
                    command, env=given, capture_output=True, text=True, timeout=_LIMIT_S, check=False
                )
            except FileNotFoundError:
                raise ConfigurationError(
                    "There is no cosign on this machine. Install cosign 3: docs/from-nothing.md, action 9."
                ) from None
            except subprocess.TimeoutExpired:
                return f"cosign did not end within {_LIMIT_S} s"
        lines = done.stderr.strip().splitlines() or [f"cosign ended with {done.returncode}"]
        return lines[-1] if done.returncode else None


def unverified(images: Sequence[str], cosign: Cosign) -> Iterator[str]:
    """Yield a message for each image that has no valid signature by the key."""
    for image in images:
        if (refused := cosign.refusal(image)) is not None:
            yield (
                f"{image} has no valid signature by {cosign.key}: {refused}. If it is your build, sign it: "
                "make images TO=ACCOUNT/REGION ARGS='--key KEY'. If not, find out who pushed it."
            )


def images_of(templates: Templates, *, url_suffix: str) -> list[str]:
    """Return each image that the templates run, as they name it: by digest or by tag."""
    return sorted(set(_images(templates, url_suffix)))


def refuse_tags(images: Sequence[str]) -> None:
    """Raise DeploymentError naming the images that have no digest."""
    if tagged := [image for image in images if not _FIXED.search(image)]:
        raise DeploymentError(
            "These images have a tag and no digest, and a tag can be moved to another image:\n  "
            + "\n  ".join(tagged)
            + "\nWrite the digest into images.lock.toml: make images TO=ACCOUNT/REGION ARGS=NAME"
        )


def _images(value: Any, url_suffix: str) -> Iterator[str]:
    if isinstance(value, list):
        value = dict(enumerate(cast("list[Any]", value)))
    for name, inner in cast("dict[Any, Any]", value).items() if isinstance(value, Mapping) else ():
        is_image = name in _HOW_IMAGES_ARE_NAMED
        yield from [_text(inner, url_suffix)] if is_image else _images(inner, url_suffix)


def _text(value: Any, url_suffix: str) -> str:
    match value:
        case {"Fn::Join": ["", [*parts]]}:
            return "".join(_text(part, url_suffix) for part in parts)
        case {"Ref": "AWS::URLSuffix"}:
            return url_suffix
        case str():
            return value
        case _:
            return json.dumps(value)
