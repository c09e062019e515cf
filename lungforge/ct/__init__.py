"""Computed tomography: volumes, segmentation, nodules, label maps, slices, phantoms."""
