"""Segmentation of body, lungs and airways from Hounsfield units."""
