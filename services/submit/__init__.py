"""``lungforge submit``: run a command as a job on a Ray cluster."""
