"""12: container images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from template_checks.facts import ImageFact
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.templates import Resource
from template_checks.values import Target, Value, at, mapping, targets, text
from template_checks.workloads import FUNCTIONS, containers_of

_ECR = re.compile(
    r"^(?P<account>\d{12}|\$\{.+?\})\.dkr\.ecr\.(?P<region>[a-z0-9-]+|\$\{.+?\})\.(?:amazonaws\.com(?:\.cn)?|\$\{.+?\})"
    r"/(?P<repository>[^:@]+)"
)
_DIGEST = re.compile(r"@(?:sha256:[0-9a-f]{64}|(?:sha256:)?\$\{.+\})$")
_FIXED_TAG = re.compile(r"\d+\.\d+|[0-9a-f]{7,40}|\d{8}")
"""A version of two numbers or more, a commit, or a date: what is not moved to another image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    resource: Resource
    path: str
    value: Value

    @property
    def address(self) -> str:
        return text(self.value)


def _images(deployment: Deployment) -> Iterator[_Image]:
    for task in deployment.workloads.tasks():
        for container in task.containers:
            at_ = f"ContainerDefinitions[{text(container.get('Name'))}].Image"
            yield _Image(resource=task.definition, path=at_, value=container.get("Image"))
    for model in deployment.workloads.models():
        for container in containers_of(model):
            if "Image" in container:
                yield _Image(resource=model, path="PrimaryContainer.Image", value=container["Image"])
    for function in deployment.templates.of(*FUNCTIONS):
        uri = at(function.properties.get("Code"), "ImageUri") or function.properties.get("ImageUri")
        if uri is not None:
            yield _Image(resource=function, path="Code.ImageUri", value=uri)
    for job in deployment.templates.of("AWS::Batch::JobDefinition"):
        value = mapping(job.properties.get("ContainerProperties")).get("Image")
        if value is not None:
            yield _Image(resource=job, path="ContainerProperties.Image", value=value)


def _check(deployment: Deployment) -> Iterator[Finding]:
    for image in _images(deployment):
        found = [*_check_pin(image), *_check_account(deployment, image)]
        yield from found
        if not found:
            yield passed(image.resource, "image-unpinned")


def _check_pin(image: _Image) -> Iterator[Finding]:
    if _DIGEST.search(image.address):
        return
    tag = image.address.rpartition("/")[2].partition("@")[0].partition(":")[2]
    is_open = "${" in tag or (image.address.startswith("${") and ":" not in image.address.rpartition("}")[2])
    if is_open and not tag.startswith("latest"):
        yield not_proven(
            image.resource,
            "image-unpinned",
            at=image.path,
            message=f"Whether {image.address} is pinned is not told.",
            mend="Name it by digest, or give the parameter's value in the facts: parameters.",
        )
    elif not _FIXED_TAG.search(tag) or tag.startswith("latest"):
        yield refused(
            image.resource,
            "image-latest" if tag.startswith("latest") else "image-unpinned",
            at=image.path,
            message=f"{image.address} "
            + (f'has the tag "{tag}", which' if tag else "has neither tag nor digest and")
            + " is another image tomorrow: tasks that start then run something that nobody tested.",
            mend="Name it by digest (…@sha256:…), or by a tag that is never moved.",
        )


def _check_account(deployment: Deployment, image: _Image) -> Iterator[Finding]:
    if any(target.resource.type == "AWS::ECR::Repository" for target in targets(image.value)):
        return  # the account's own, made by these templates
    match = _ECR.match(image.address)
    if match is None:
        if "${" in image.address.partition("/")[0] or isinstance(image.value, Target):
            yield _untold(image, "its registry is not in the templates")
        return
    row = _row(deployment, match["repository"])
    own = image.resource.template.account or deployment.facts.account
    if row is None:
        # An image of the deployment's own account needs no table.
        if not ("AWS::AccountId" in match["account"] or (own and match["account"] == own)):
            yield _untold(image, f"{match['repository']} is not in the image table")
        return
    allowed = _allowed(row, region=match["region"], own=own or "${AWS::AccountId}")
    if match["account"] not in allowed:
        is_told = "${" not in match["account"] and not any("${" in one for one in allowed)
        yield (refused if is_told else not_proven)(
            image.resource,
            "image-account",
            at=image.path,
            message=f"{row.repository} is taken from account {match['account']}; in {match['region']} it "
            f"is published by {' or '.join(sorted(allowed)) or 'nobody'}.",
            mend="Take the account of the region from the publisher's table, or copy the image into your "
            "own.",
        )


def _untold(image: _Image, why: str) -> Finding:
    return not_proven(
        image.resource,
        "image-account",
        at=image.path,
        message=f"Whether {image.address} is of the right account is not told: {why}.",
        mend="Put a row into the facts: [[images]] with repository and accounts by region.",
    )


def _row(deployment: Deployment, repository: str) -> ImageFact | None:
    return next((row for row in deployment.facts.images if row.repository == repository), None)


def _allowed(row: ImageFact, *, region: str, own: str) -> set[str]:
    if not row.accounts:
        return {own}
    if "${" in region:
        everywhere = set(row.accounts.values())
        return everywhere if len(everywhere) == 1 else {*everywhere, "${region}"}
    return {row.accounts[region]} if region in row.accounts else set()


MISTAKES = (
    Mistake(
        number=12,
        title="An image unpinned, latest, or from the wrong account",
        parts={
            "image-unpinned": "neither a digest nor a tag that stays (a version, a commit, a date)",
            "image-latest": "the tag latest",
            "image-account": "the account is not the one that publishes the image in that region",
        },
        why="A moved tag changes what runs without a deployment, on the next task that starts. AWS "
        "publishes its images from accounts that differ by image and region; another account's pull is "
        "denied.",
        mend="A digest, from the account of the image table.",
        absent="no container image",
        facts="[[images]], for images of other accounts",
        check=_check,
    ),
)
