"""Bulkhead: runs AI agents on Kubernetes where they can do their work and nothing else."""
