"""Export of datasets as image files for other programs."""
