"""Synthetic thorax phantoms in the layout of LUNA16."""
