"""23: a key for the volume of an instance that has none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from assistant.domain.errors import ConfigurationError
from assistant.settings.model_artifacts import instance_named
from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.values import is_known, text
from template_checks.workloads import instance_types

_FAMILIES = frozenset(
    {
        *("g4dn", "g5", "g6", "g6e", "gr6", "g7e"),
        *("p3dn", "p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6e-gb200"),
        *("trn1", "trn1n", "trn2"),
        *("i3", "i3en", "i4i", "i7ie"),
    }
)
"""Families with local NVMe disks whose names do not say so (EC2, "Instance store volumes")."""
_SAYS_SO = re.compile(r"[a-z]+\d+[a-z]*d[a-z]*")
"""``c5d``, ``m6id``, ``r6gd``, ``m5dn``: a ``d`` behind the generation is a local disk (EC2, "Naming")."""


def _has_local_disk(instance_type: str) -> bool:
    try:
        return instance_named(instance_type).has_local_disk
    except ConfigurationError:
        family = instance_type.removeprefix("ml.").rpartition(".")[0]
        return family in _FAMILIES or _SAYS_SO.fullmatch(family) is not None


def _check(deployment: Deployment) -> Iterator[Finding]:
    for config, variant in deployment.workloads.variants():
        types = instance_types(variant)
        if not types:
            continue
        name = f"ProductionVariants[{text(variant.get('VariantName'))}]"
        local = [text(one) for one in types if is_known(one) and _has_local_disk(text(one))]
        if "KmsKeyId" not in config.properties:
            yield passed(config, "local-disk-key")
        elif local:
            yield refused(
                config,
                "local-disk-key",
                at="KmsKeyId",
                message=f"{name} stands on {local[0]}, which has local NVMe disks: CreateEndpointConfig "
                "refuses any key there, paused or not.",
                mend="Leave KmsKeyId out: the instance encrypts its disks in hardware. Where a key of your "
                "own is demanded, take an instance with EBS alone.",
            )
        elif not all(map(is_known, types)):
            yield not_proven(
                config,
                "local-disk-key",
                at=f"{name}.InstanceType",
                message="Whether its instance has local disks, for which no key may be named, is not told.",
                mend="Give the parameter a default, or its value in the facts: parameters.",
            )
        else:
            yield passed(config, "local-disk-key")


MISTAKES = (
    Mistake(
        number=23,
        title="A volume key for an instance with local disks",
        parts={
            "local-disk-key": "an endpoint configuration has KmsKeyId and a variant on an instance with "
            "local NVMe disks",
        },
        why="SageMaker encrypts only EBS volumes by a key. For local disks (g5, g6, g6e, p4d, trn1 and "
        "others) it refuses the whole configuration, and with it the first deployment. Validators ask for "
        "that very key.",
        mend="No KmsKeyId where an instance has local disks, and the validator's finding explained; or an "
        "instance without them (inf2, c7i, m7i).",
        absent="no variant stands on an instance",
        check=_check,
    ),
)
