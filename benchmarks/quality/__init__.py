"""A fair comparison of the generators: equal minutes, threads and data for each, then all measures."""
