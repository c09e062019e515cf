"""Wait, on a host, for parts of the cluster: ``python -m cluster.local.ready store`` or ``hosts 4``."""

import contextlib
import sys
import time
from collections.abc import Callable

from cluster.local.cluster import BUCKET, DASHBOARD

_INTERVAL_S = 0.2


def store_is_ready() -> bool:
    """Whether S3 answers and its bucket exists, which is created a moment later."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    once = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
    with contextlib.suppress(BotoCoreError, ClientError):
        botocore.session.get_session().create_client("s3", config=once).head_bucket(Bucket=BUCKET)
        return True
    return False


def hosts_are_ready(count: int) -> bool:
    """Whether Ray lists ``count`` live hosts."""
    from ray.util.state import list_nodes

    with contextlib.suppress(Exception):  # a starting head may raise anything
        # Not filtered by Ray, which would warn that the answer was truncated by the hosts left out.
        nodes = list_nodes(address=DASHBOARD, limit=1000)
        return sum(node.state == "ALIVE" for node in nodes) == count
    return False


def main(what: str, *count: str) -> None:
    """Return when it is ready."""
    ready: Callable[[], bool] = store_is_ready if what == "store" else lambda: hosts_are_ready(int(count[0]))
    while not ready():
        time.sleep(_INTERVAL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
