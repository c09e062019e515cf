"""``lungforge submit``: a command as a job on a Ray cluster."""
