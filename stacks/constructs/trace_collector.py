"""The collector of traces beside the service: takes spans on the task's own loopback, hands them to X-Ray."""

from __future__ import annotations

import json
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs

from stacks.tenant import DeployedTenant

OTLP_ENDPOINT = "http://127.0.0.1:4318"
"""Containers of a task share their network: nothing else reaches it, and no security group knows it."""
_USER = "10001:10001"
_MEMORY_MIB = 256
_CONFIG_VARIABLE = "AOT_CONFIG_CONTENT"
"""Where the AWS Distro for OpenTelemetry takes its configuration from, instead of a file."""


def add_trace_collector(
    definition: ecs.FargateTaskDefinition, *, tenant: DeployedTenant, image: str, logging: ecs.LogDriver
) -> ecs.ContainerDefinition:
    """Add the container. Its end is not the task's: answers matter more than their traces."""
    collector = definition.add_container(
        "Traces",
        image=ecs.ContainerImage.from_registry(image),
        essential=False,
        enable_restart_policy=True,
        restart_attempt_period=cdk.Duration.seconds(60),
        user=_USER,
        readonly_root_filesystem=True,
        memory_limit_mib=_MEMORY_MIB,
        environment={_CONFIG_VARIABLE: json.dumps(collector_config(region=tenant.place.region))},
        logging=logging,
        stop_timeout=cdk.Duration.seconds(30),
        # The image's own program; it asks the extension `health_check` below.
        health_check=ecs.HealthCheck(
            command=["CMD", "/healthcheck"],
            interval=cdk.Duration.seconds(30),
            timeout=cdk.Duration.seconds(5),
            start_period=cdk.Duration.seconds(10),
        ),
    )
    collector.add_ulimits(ecs.Ulimit(name=ecs.UlimitName.NOFILE, soft_limit=4096, hard_limit=4096))
    return collector


def collector_config(*, region: str) -> dict[str, Any]:
    """Return the collector's configuration: what comes is bounded in memory, batched, sent to the region."""
    return {
        "extensions": {"health_check": {"endpoint": "127.0.0.1:13133"}},
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": OTLP_ENDPOINT.removeprefix("http://")}}}},
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": _MEMORY_MIB * 3 // 4,
                "spike_limit_mib": _MEMORY_MIB // 8,
            },
            "batch": {"timeout": "5s", "send_batch_size": 50},
        },
        # `local_mode` asks no instance's metadata, of which Fargate has none.
        "exporters": {"awsxray": {"region": region, "local_mode": True}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["awsxray"],
                }
            },
            "telemetry": {"logs": {"level": "warn"}},
        },
    }
