"""A Ray cluster of several hosts on one Linux machine, and an S3 of its own, for watching hosts fail."""
