"""Tests that take minutes each: only `make test-cluster` runs them."""

import os

import pytest

#: Whether they are to run.
LONG = os.environ.get("LUNGFORGE_TEST_CLUSTER") == "1"
in_the_long_run = pytest.mark.skipif(
    not LONG, reason="takes minutes: set LUNGFORGE_TEST_CLUSTER=1 (make test-cluster does)"
)
