"""Measuring synthetic slices against real ones, and the report."""
