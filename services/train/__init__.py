"""Training of a generator, on Ray Train."""
