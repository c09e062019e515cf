"""Computed tomography: volumes, anatomy, nodules, label maps, slices, phantoms."""
