"""A real OpenSearch node on this machine: by Docker Compose, or assembled from what Maven keeps."""
