"""The network stack: VPC, security groups, endpoints."""
