"""The care side of the private link: network, endpoint and probe."""
