"""What only a laptop runs: one process with service, issuer, worker and models."""
