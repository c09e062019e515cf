"""A generator of another package: a grey level for each class, and noise."""
