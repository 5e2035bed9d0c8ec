"""The twenty-three template mistakes, each with the check that refuses it."""

from template_checks.mistakes import (
    capture_and_log_keys,
    edge_listeners,
    edge_paths,
    endpoint_policies,
    endpoints,
    fargate,
    functions,
    hops,
    images,
    local_disks,
    log_buckets,
    model_sources,
    names_dialled,
    sagemaker_updates,
    sagemaker_variants,
    search_domains,
    zones,
)
from template_checks.mistakes.mistake import Deployment, Mistake

__all__ = ["MISTAKES", "Deployment", "Mistake"]

MISTAKES: tuple[Mistake, ...] = tuple(
    sorted(
        (
            *edge_paths.MISTAKES,
            *edge_listeners.MISTAKES,
            *names_dialled.MISTAKES,
            *zones.MISTAKES,
            *endpoints.MISTAKES,
            *endpoint_policies.MISTAKES,
            *sagemaker_variants.MISTAKES,
            *images.MISTAKES,
            *model_sources.MISTAKES,
            *sagemaker_updates.MISTAKES,
            *capture_and_log_keys.MISTAKES,
            *search_domains.MISTAKES,
            *log_buckets.MISTAKES,
            *fargate.MISTAKES,
            *functions.MISTAKES,
            *hops.MISTAKES,
            *local_disks.MISTAKES,
        ),
        key=lambda mistake: mistake.number,
    )
)
"""By number."""
