"""17: keys of captured data and of logs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.keys import key_named, key_policy_lets
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.policies import bucket_and_key, plain, statements
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Value, at, flag, text

_LOG_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")
_LOGS = re.compile(r"^logs\.(?:(?P<region>[a-z0-9-]+|\$\{.+?\})\.)?amazonaws\.com(?:\.cn)?$")


def _check(deployment: Deployment) -> Iterator[Finding]:
    for config in dict.fromkeys(config for config, _ in deployment.workloads.variants()):
        capture = config.properties.get("DataCaptureConfig")
        if capture is not None and flag(at(capture, "EnableCapture")) is not False:
            yield from _check_capture(deployment, config, capture)
    for group in deployment.templates.of("AWS::Logs::LogGroup"):
        if "KmsKeyId" in group.properties:
            yield _check_log_group(deployment, group)


def _check_capture(deployment: Deployment, config: Resource, capture: Value) -> Iterator[Finding]:
    key = at(capture, "KmsKeyId")
    if key is None:
        yield refused(
            config,
            "capture-without-key",
            at="DataCaptureConfig.KmsKeyId",
            message="What the model was asked and answered is captured without a key of your own.",
            mend="Set DataCaptureConfig.KmsKeyId, and let the model's execution role use the key.",
        )
    seen: set[Resource] = set()
    for owner, variant in deployment.workloads.variants():
        model = deployment.workloads.model_of(variant) if owner is config else None
        if model is not None and model not in seen:
            seen.add(model)
            yield from _check_rights(deployment, config, model, capture)
    if not seen:
        yield _untold(config, "the model of its variants is not in the templates")


def _check_rights(
    deployment: Deployment, config: Resource, model: Resource, capture: Value
) -> Iterator[Finding]:
    role = deployment.policies.role(model.properties.get("ExecutionRoleArn"))
    if role is None:
        yield _untold(config, f"the execution role of {model.logical_id} is not in the templates")
        return
    bucket, prefix = bucket_and_key(at(capture, "DestinationS3Uri"))
    inside = f"arn:aws:s3:::{bucket}/{prefix.rstrip('/') + '/' if prefix else ''}capture.jsonl"
    yield _rights(
        role,
        "capture-put-rights",
        verdict=deployment.policies.grants(role, "s3:PutObject", inside),
        wanted=f"s3:PutObject on {inside.removesuffix('capture.jsonl')}*",
    )
    key = at(capture, "KmsKeyId")
    if key is not None:
        verdict = deployment.policies.grants(role, "kms:GenerateDataKey", plain(key))
        by_policy = key_policy_lets(deployment, key, role, "kms:GenerateDataKey")
        yield _rights(
            role,
            "capture-key-rights",
            verdict=True if by_policy else verdict,
            wanted=f"kms:GenerateDataKey on {plain(key)}",
        )


def _rights(role: Resource, code: str, *, verdict: bool | None, wanted: str) -> Finding:
    if verdict:
        return passed(role, code)
    return (refused if verdict is False else not_proven)(
        role,
        code,
        at="Policies",
        message=f"SageMaker writes captured data by this role, and its policies do not name {wanted}.",
        mend=f"Allow it {wanted}.",
    )


def _untold(config: Resource, why: str) -> Finding:
    return not_proven(
        config,
        "capture-put-rights",
        at="DataCaptureConfig",
        message=f"Whether capture can be written is not told: {why}.",
        mend="Give the template that has it to the same check.",
    )


def _check_log_group(deployment: Deployment, group: Resource) -> Finding:
    key = key_named(deployment.templates, group.properties["KmsKeyId"])
    if key is None:
        return not_proven(
            group,
            "log-key-principal",
            at="KmsKeyId",
            message=f"Whether CloudWatch Logs may use {text(group.properties['KmsKeyId'])} is not told: "
            "the key is not in the templates.",
            mend="Give the key's template to the same check.",
        )
    named = [
        statement
        for statement in statements(key.properties.get("KeyPolicy"))
        if statement.allows and any(_is_logs(name, group) for name in statement.principals.get("Service", ()))
    ]
    missing = [action for action in _LOG_ACTIONS if not any(one.names_action(action) for one in named)]
    if not missing:
        return passed(group, "log-key-principal")
    region = group.template.region or "<region>"
    return refused(
        key,
        "log-key-principal",
        at="KeyPolicy",
        message=f"It encrypts the log group {group.logical_id}, and its policy does not let CloudWatch "
        f"Logs call {' and '.join(missing)}: the log group cannot be made.",
        mend=f"Allow the service principal logs.{region}.amazonaws.com kms:Encrypt*, kms:Decrypt*, "
        "kms:ReEncrypt*, kms:GenerateDataKey* and kms:Describe* in the key policy, under the log group's "
        "encryption context.",
    )


def _is_logs(principal: str, group: Resource) -> bool:
    match = _LOGS.match(principal)
    if match is None:
        return False
    region = match["region"]
    return region is None or "${" in region or group.template.region in (None, region)


MISTAKES = (
    Mistake(
        number=17,
        title="Capture without key or put rights; a log key without the logs principal",
        parts={
            "capture-without-key": "data capture has no KmsKeyId",
            "capture-put-rights": "the model's execution role may not put objects where capture goes",
            "capture-key-rights": "the model's execution role may not generate data keys of the capture's "
            "key",
            "log-key-principal": "the key of a log group does not let the region's logs service use it",
        },
        why="SageMaker writes capture by the execution role and drops it silently without the rights. "
        "CloudWatch Logs uses a key by its own service principal, which only the key policy can name.",
        mend="A key, kms:GenerateDataKey and s3:PutObject for the execution role; "
        "logs.<region>.amazonaws.com in the policy of a log group's key.",
        absent="no data capture, and no log group has a key",
        check=_check,
    ),
)
