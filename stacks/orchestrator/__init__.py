"""The orchestrator stack: the service on Fargate."""
