"""A dataset's pictures as files for other programs."""
