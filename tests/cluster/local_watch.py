"""Run on the head of a local cluster: prints, as lines of JSON, which nodes are alive and what is in S3.

A line is printed whenever one of them changes. Its time is that of CLOCK_MONOTONIC, which all hosts share.
"""

import json
import sys
import time

import s3fs
from ray.util.state import list_nodes

dashboard, bucket = sys.argv[1:]
store = s3fs.S3FileSystem(use_listings_cache=False)
last = None
while True:
    nodes = list_nodes(dashboard, limit=1000, raise_on_missing_output=False)
    alive = sorted(node.node_ip for node in nodes if node.state == "ALIVE")
    files = {
        path.partition("/")[2]: listed["LastModified"].isoformat()
        for path, listed in store.find(bucket, detail=True).items()
        if listed["type"] == "file" and "LastModified" in listed
    }
    if last != (alive, files):
        last = (alive, files)
        print(json.dumps({"time": time.monotonic(), "alive": alive, "files": files}), flush=True)
    time.sleep(0.25)
