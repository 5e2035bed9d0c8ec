"""Exceptions to the validators' rules: which finding stays, on which construct, and why.

Rows are declared beside the construct that they excuse; ``stacks.validators.TABLE`` is all of them. A row
without effect is an error: ``python -m stacks.validators`` compares rows with the report's
``suppressedViolations``. An example:

    *exceptions("Ingestion", nag("L1"), "Python 3.13 is the newest that this package supports…")

is ``Acknowledgement(construct="Ingestion", findings=("AwsSolutions::AwsSolutions-L1",), reason="Python
3.13…")``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk.region_info import RegionInfo
from constructs import IConstruct


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """``construct`` is a path below the stage (``Network/Vpc/FlowLog``); its descendants are covered too.

    ``findings`` are ids with their pack: ``AwsSolutions::AwsSolutions-IAM5[Resource::*]``,
    ``HIPAA.Security::HIPAA.Security-LambdaDLQ``, ``cfn-lint::W3005``, ``checkov::CKV_AWS_18``. In an id,
    ``{partition}``, ``{account}``, ``{region}``, ``{stage}`` (``assistant-pharmacy``) and names of AWS's
    registries (their accounts in the region) are placeholders for what differs by tenant.
    """

    construct: str
    findings: tuple[str, ...]
    reason: str
    decision: str | None = None
    """``0015-name-of-record`` under docs/decisions."""


def exceptions(
    constructs: str | Iterable[str],
    findings: str | Sequence[str],
    reason: str,
    *,
    decision: str | None = None,
) -> tuple[Acknowledgement, ...]:
    """Return one row for each construct; a single construct or finding may be a str.

    ``decision``: a record under docs/decisions, without ``.md``.
    """
    return tuple(
        Acknowledgement(
            construct=construct,
            findings=(findings,) if isinstance(findings, str) else tuple(findings),
            reason=reason,
            decision=decision,
        )
        for construct in ((constructs,) if isinstance(constructs, str) else constructs)
    )


def nag(rule: str) -> str:
    """Return the id of a finding of cdk-nag's pack ``AwsSolutions`` (``L1``, ``IAM5[Resource::*]``)."""
    return f"AwsSolutions::AwsSolutions-{rule}"


def hipaa(rule: str) -> str:
    """Return the id of a finding of cdk-nag's pack ``HIPAA.Security`` (``LambdaDLQ``)."""
    return f"HIPAA.Security::HIPAA.Security-{rule}"


def wildcard(*resources: str) -> tuple[str, ...]:
    """Return the ids of findings on statements with these wildcard resources."""
    return tuple(nag(f"IAM5[Resource::{resource}]") for resource in resources)


def of_data_stack(output: str) -> str:
    """Return how cdk-nag writes a value of the data stack in a finding. ``output``: the name that CDK gives
    the output behind the reference; it ends in a hash of the pinned logical id, so it changes only with
    that."""
    place = '"StackName":"{stage}-Data","Region":"{region}"'
    return f'{{"Fn::GetStackOutput":{{{place},"OutputName":"{output}"}}}}'


TRAIL_BUCKET = of_data_stack("PublishOutputRefTrailBucketF0E5DA1F")
INBOX_BUCKET = of_data_stack("PublishOutputRefInboxBucketFE28DFA5")
DOCUMENTS_BUCKET = of_data_stack("PublishOutputRefDocumentsBucketC67A8896")
MODELS_BUCKET = of_data_stack("PublishOutputRefModelsBucket7DFDDE96")
QUARANTINE_BUCKET = of_data_stack("PublishOutputRefQuarantineBucket320A5204")
TEXTS_BUCKET = of_data_stack("PublishOutputRefFeedbackBucketFBCD54F6")
LABELS_BUCKET = of_data_stack("PublishOutputRefLabelsBucket870DA462")
CAPTURE_BUCKET = of_data_stack("PublishOutputRefCaptureBucket9F69268F")

ANY_RESOURCE = (*wildcard("*"), "checkov::CKV_AWS_111")
LAMBDA_PLATFORM = (
    "Lambda creates network interfaces with the function's role; those actions and X-Ray's support no "
    "resources (Service Authorization Reference). The function's own code is denied the former."
)
PYTHON_RUNTIME = (
    "Python 3.13 is the newest that this package supports and is tested with; Lambda runs it until "
    "2029-06-30 (Lambda Developer Guide, runtimes)."
)
OWN_INLINE_POLICY = (
    "The permissions of exactly this role, created and deleted with it. Whoever may attach policies could "
    "attach a managed policy to another role."
)
NO_REPLICATION = hipaa("S3BucketReplicationEnabled")
DEFAULT_GROUP = hipaa("VPCDefaultSecurityGroupClosed")

_BY_CDK_NAG = ("AwsSolutions::", "HIPAA.Security::")
"""Packs whose findings CDK silences; ``stacks.validators`` compares those of cfn-lint and checkov itself."""


def acknowledge(
    stage: cdk.Stage, rows: Iterable[Acknowledgement], *, registries: Mapping[str, str] | None = None
) -> None:
    """Acknowledge the cdk-nag findings of every row whose construct is in the stage. Call it after the stacks
    exist.

    ``registries``: AWS's account in the region, by the registry's name in images.lock.toml, for placeholders.
    A row whose construct this tenant does not have (no reach entry, no power schedule) is skipped.
    """
    partition = RegionInfo.get(stage.region or "").partition
    values = {"account": stage.account, "region": stage.region, "stage": stage.stage_name}
    values |= {"partition": partition, **(registries or {})}
    for row in rows:
        construct = _find(stage, row.construct)
        if construct is None:
            continue
        reason = f"{row.reason} (docs/decisions/{row.decision}.md)" if row.decision else row.reason
        for finding in row.findings:
            if finding.startswith(_BY_CDK_NAG):
                cdk.Validations.of(construct).acknowledge(
                    cdk.Acknowledgment(
                        id=_PLACEHOLDER.sub(lambda match: values[match[1]] or "", finding), reason=reason
                    )
                )


_PLACEHOLDER = re.compile(r"\{([a-z-]+)\}")


def pattern_of(finding: str) -> re.Pattern[str]:
    """Return a pattern that matches the finding's id in every stage: a placeholder stands for any text
    without ``:`` and ``/``."""
    texts_between = re.split(r"\{[a-z-]+\}", finding)
    return re.compile("[^:/]+".join(map(re.escape, texts_between)))


def _find(stage: cdk.Stage, path: str) -> IConstruct | None:
    """Return the construct at a path below the stage; None where there is none."""
    construct: IConstruct | None = stage
    for part in path.split("/"):
        construct = None if construct is None else construct.node.try_find_child(part)
    return construct
