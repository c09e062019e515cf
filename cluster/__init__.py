"""Deployments: local cluster, Slurm, Kubernetes, monitoring."""
