"""17: keys of captured data and of logs."""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.conditions import Context
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.permissions import Request, bucket_named, policy_of_bucket, policy_of_key, service_may
from template_checks.policies import bucket_and_key, is_of_aws, key_named, plain, spellings
from template_checks.templates import Resource
from template_checks.values import Value, at, flag, text

_LOG_ACTIONS = ("kms:GenerateDataKey", "kms:Decrypt")


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
    key = at(capture, "KmsKeyId")
    yield _check_put(deployment, role, capture, key)
    if key is not None and not is_of_aws(key):
        yield _check_key(deployment, role, key)


def _check_put(deployment: Deployment, role: Resource, capture: Value, key: Value) -> Finding:
    bucket, prefix = bucket_and_key(at(capture, "DestinationS3Uri"))
    inside = f"arn:aws:s3:::{bucket}/{prefix.rstrip('/') + '/' if prefix else ''}*"
    encrypted: dict[str, tuple[str, ...]] = {}
    if key is not None:
        encrypted = {
            "s3:x-amz-server-side-encryption": ("aws:kms",),
            "s3:x-amz-server-side-encryption-aws-kms-key-id": _names_of_key(deployment, key),
        }
    request = Request(
        action="s3:PutObject",
        resources=(inside,),
        context=Context(known=encrypted, absent=() if encrypted else ("s3:x-amz-server-side-encryption",)),
    )
    found = bucket_named(deployment.templates, bucket)
    policy = policy_of_bucket(deployment.templates, found) if found else []
    verdict = deployment.permissions.role_may(role, request, resource_policy=policy)
    return _rights(role, "capture-put-rights", verdict=verdict, wanted=f"s3:PutObject on {inside}")


def _check_key(deployment: Deployment, role: Resource, value: Value) -> Finding:
    """Hold a role against the key's policy and its own, as S3 asks them on its behalf."""
    key = key_named(deployment.templates, value)
    request = Request(
        action="kms:GenerateDataKey",
        resources=_names_of_key(deployment, value),
        context=Context(
            known={
                "kms:viaservice": (f"s3.{role.region}.amazonaws.com",),
                "kms:calleraccount": (role.account,),
            }
        ),
    )
    if key is None:
        verdict = False if deployment.permissions.role_may(role, request) is False else None
    else:
        verdict = deployment.permissions.role_may(
            role, request, resource_policy=policy_of_key(key), needs_both=True
        )
    return _rights(
        role, "capture-key-rights", verdict=verdict, wanted=f"kms:GenerateDataKey on {plain(value)}"
    )


def _names_of_key(deployment: Deployment, value: Value) -> tuple[str, ...]:
    key = key_named(deployment.templates, value)
    return spellings(key) if key else (plain(value),)


def _rights(role: Resource, code: str, *, verdict: bool | None, wanted: str) -> Finding:
    if verdict:
        return passed(role, code)
    return (refused if verdict is False else not_proven)(
        role,
        code,
        at="Policies",
        message=f"SageMaker writes captured data by this role, and policies do not let it {wanted}."
        if verdict is False
        else f"SageMaker writes captured data by this role; whether policies let it {wanted} is not told.",
        mend=f"Allow it {wanted}, in its own policies and in those of the bucket and the key."
        if verdict is False
        else "Give the templates of the bucket, the key and the policies to the same check.",
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
    region = group.region
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    verdicts = {
        action: service_may(
            (f"logs.{region}.{suffix}", f"logs.{suffix}"),
            Request(
                action=action,
                resources=spellings(key),
                context=Context(
                    known={
                        "kms:encryptioncontext:aws:logs:arn": spellings(group),
                        "aws:sourcearn": spellings(group),
                        "aws:sourceaccount": (group.account,),
                        "kms:calleraccount": (group.account,),
                    }
                ),
            ),
            resource_policy=policy_of_key(key),
        )
        for action in _LOG_ACTIONS
    }
    missing = [action for action, verdict in verdicts.items() if verdict is not True]
    if not missing:
        return passed(group, "log-key-principal")
    is_told = False in verdicts.values()
    return (refused if is_told else not_proven)(
        key,
        "log-key-principal",
        at="KeyPolicy",
        message=f"It encrypts the log group {group.logical_id}, and its policy does not let CloudWatch "
        f"Logs call {' and '.join(missing)} for that group: the log group cannot be made."
        if is_told
        else f"It encrypts the log group {group.logical_id}; whether its policy lets CloudWatch Logs call "
        f"{' and '.join(missing)} for that group is not told.",
        mend=f"Allow the service principal logs.{region}.{suffix} kms:Encrypt*, kms:Decrypt*, "
        "kms:ReEncrypt*, kms:GenerateDataKey* and kms:Describe* in the key policy, under the log group's "
        "encryption context.",
    )


MISTAKES = (
    Mistake(
        number=17,
        title="Capture without key or put rights; a log key without the logs principal",
        parts={
            "capture-without-key": "data capture has no KmsKeyId",
            "capture-put-rights": "the model's execution role may not put objects where capture goes, by its "
            "policies or the bucket's",
            "capture-key-rights": "the model's execution role may not generate data keys of the capture's "
            "key, by its policies or the key's",
            "log-key-principal": "the key of a log group does not let the region's logs service use it for "
            "that group",
        },
        why="SageMaker writes capture by the execution role and drops it silently without the rights. "
        "CloudWatch Logs uses a key by its own service principal, which only the key policy can name.",
        mend="A key, kms:GenerateDataKey and s3:PutObject for the execution role; "
        "logs.<region>.amazonaws.com in the policy of a log group's key.",
        absent="no data capture, and no log group has a key",
        check=_check,
    ),
)
