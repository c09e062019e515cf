"""Measures of generated images: distances between sets, fidelity to the map, near-duplicates, lineage."""
