"""Sampling of synthetic slices from maps, on Ray actors."""
