"""Training sets, corpora, and releases of models."""
