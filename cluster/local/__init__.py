"""A Ray cluster of several hosts on one Linux machine, with an S3 server, for testing failures of hosts."""
