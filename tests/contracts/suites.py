"""Which twins each port's suite runs over."""

from __future__ import annotations

from collections.abc import Mapping

SUITES: Mapping[str, tuple[str, ...]] = {
    "test_answer_claims": ("embedded", "dynamodb"),
    "test_answer_records": ("embedded", "dynamodb"),
    "test_audit_chain": ("embedded", "dynamodb"),
    "test_blobs": ("embedded", "s3"),
    "test_capture": ("embedded", "s3"),
    "test_desk_store": ("embedded", "dynamodb"),
    "test_document_states": ("embedded", "dynamodb"),
    "test_document_store": ("embedded", "s3"),
    "test_erasure_keys": ("embedded", "dynamodb"),
    "test_feedback_files": ("embedded", "s3"),
    "test_feedback_outbox": ("embedded", "dynamodb"),
    "test_endpoint_power": ("embedded", "ssm"),
    "test_ingestion_queue": ("embedded", "sqs"),
    "test_index_versions": ("embedded", "opensearch"),
    "test_index_damage": ("embedded", "opensearch"),
    "test_live_reads": ("embedded", "dynamodb"),
    "test_revocations": ("embedded", "ssm"),
    "test_sent_values": ("embedded", "dynamodb"),
    "test_system_switches": ("embedded", "ssm"),
    "test_uploads": ("embedded", "s3"),
    "test_passage_filters": ("embedded", "opensearch"),
    "test_passage_index": ("embedded", "opensearch"),
    "test_table": ("embedded", "dynamodb"),
    "test_source_runs": ("embedded", "dynamodb"),
    "test_sources": ("embedded", "opensearch"),
}
"""The twins that each module of this folder runs over, every one of its tests over every one of them."""

NODE = "opensearch"
"""The twin of a real OpenSearch node. ``make test-node`` runs it alone, ``make test`` all others."""


def suites_of_run(*, node: bool) -> Mapping[str, tuple[str, ...]]:
    """Return the twins of this run by module, without modules that have none in it."""
    chosen = {
        module: tuple(twin for twin in twins if (twin == NODE) is node) for module, twins in SUITES.items()
    }
    return {module: twins for module, twins in chosen.items() if twins}
