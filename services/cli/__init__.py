"""The ``lungforge`` command line."""
