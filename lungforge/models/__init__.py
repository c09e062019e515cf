"""Generators: what turns label maps into CT slices."""
