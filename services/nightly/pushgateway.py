"""Pushing the status of a night to a Prometheus Pushgateway, so that alerts need no access to the store."""

import time

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

from services.common.errors import reason_of
from services.common.progress import say
from services.nightly.history import Night

_JOB = "lungforge_nightly"


def push_night(gateway: str, night: Night) -> None:
    """Push whether the night was worse, and when the last night ended.

    A failed night leaves the time of the last one that did not fail. A gateway that is down, or refuses,
    gives a line on stderr and changes nothing else: the history is the record.

    Args:
        gateway: URL of the Pushgateway.
        night: The night, as it stands in the history.
    """
    registry = CollectorRegistry()
    worse = Gauge("lungforge_nightly_worse", "Whether the last night was worse.", registry=registry)
    worse.set(night.status == "worse")
    if night.status != "failed":
        done = Gauge(
            "lungforge_nightly_last_done_timestamp_seconds",
            "When the last night ended that did not fail.",
            registry=registry,
        )
        done.set(time.time())
    try:
        pushadd_to_gateway(gateway, job=_JOB, registry=registry)
    except OSError as error:
        say(f"the night was not pushed to the Pushgateway: {reason_of(error)}")
