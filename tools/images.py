"""Publishes a deployment's images and writes their digests to the lock: ``make images TO=ACCOUNT/REGION``.

Docker (with buildx) builds and pushes, on a machine that reaches the registries. A tag is never written
twice: the repositories are immutable, and an image that is there is used as it is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from assistant.domain.errors import AssistantError, ConfigurationError, DeploymentError
from assistant.tenant.manifests import LockedImage, load_images, write_digest
from assistant.terminal.publishing import PLATFORMS, Registry

BY_DEFAULT = ("orchestrator", "model_server", "learning", "otel_collector", "embedding_tei_cpu")
"""Images that every deployment needs. An LLM on an accelerator needs ``llm_neuronx`` or ``llm_gpu`` too,
corpora need ``corpus_job``."""


def publish(registry: Registry, names: Sequence[str], *, platform: str, lock_file: Path) -> None:
    """Publish each image of the lock, and write its digest: build or copy our own unless its tag is in the
    registry already; look up the digest of AWS's.

    ``platform``: of the tasks, several with commas. Raises ConfigurationError, DeploymentError.
    """
    lock = load_images(lock_file)
    images = {name: lock.image(name) for name in names}
    for name, image in images.items():
        source = registry
        if not image.is_own:
            source = Registry(
                account=lock.account(name, region=registry.region, own=""), region=registry.region
            )
        user, password = source.login()
        _docker("login", "--username", user, "--password-stdin", source.host, stdin=password)
        existing = registry.digest(image) if image.is_own else None
        if image.is_own and existing is None:
            _push(name, image, registry, platform=platform)
        inspect = ("imagetools", "inspect", source.name_of(image), "--format", "{{.Manifest.Digest}}")
        digest = existing or _docker("buildx", *inspect)
        write_digest(lock_file, name=name, digest=digest)
        remark = ", as it was there: a changed image needs another tag" if existing else ""
        sys.stderr.write(f"{name} = {digest}{remark}\n")


def _push(name: str, image: LockedImage, registry: Registry, *, platform: str) -> None:
    """Copy an image that has a ``source``; build any other from ``containers/<name>``, and push it."""
    tag = ("--tag", registry.name_of(image))
    if image.source:  # without --prefer-index=false buildx wraps the image in an index with another digest
        _docker("buildx", "imagetools", "create", "--prefer-index=false", *tag, image.source)
        return
    # Without --platform buildx builds for this machine: an image of an Arm laptop does not start on x86.
    options = ("--platform", PLATFORMS.get(name, platform), "--build-arg", f"PYTHON_IMAGE={_base(name)}")
    definition = ("--file", f"containers/{name}/Dockerfile", ".")
    _docker("buildx", "build", "--push", "--provenance=false", *options, *tag, *definition)


def _base(name: str) -> str:
    """Return the locked base image of an image: ``registry/python:3.13-slim@sha256:…``. Raises
    ConfigurationError."""
    own = Path(f"containers/{name}/base-image.lock")
    lines = (own if own.exists() else Path("containers/base-image.lock")).read_text("utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#") and "@sha256:" in line]
    if len(pinned) != 1:
        raise ConfigurationError(f"The base of {name} has no digest: run make lock-images IMAGE={name} once.")
    return pinned[0]


def _docker(*arguments: str, stdin: str | None = None) -> str:
    """Run docker and return what it prints; its errors go to stderr. Raises DeploymentError."""
    done = subprocess.run(["docker", *arguments], input=stdin, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise DeploymentError(f"docker {' '.join(arguments[:3])} ended with {done.returncode}.")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make images", description=__doc__)
    parser.add_argument("to", metavar="ACCOUNT/REGION")
    parser.add_argument("names", nargs="*", default=BY_DEFAULT, metavar="NAME", help="of images.lock.toml")
    parser.add_argument("--platform", default="linux/amd64,linux/arm64", help="of the tasks; default: both")
    arguments = parser.parse_args()
    try:
        publish(
            Registry.parse(arguments.to),
            arguments.names,
            platform=arguments.platform,
            lock_file=Path("images.lock.toml"),
        )
    except AssistantError as error:
        sys.exit(f"make images: {error.message}")


if __name__ == "__main__":
    main()
