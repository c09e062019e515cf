"""Capacity model: run time and cost on a cluster, from measured rates."""
