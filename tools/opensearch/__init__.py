"""A real OpenSearch node on this machine, assembled from what Maven keeps."""
