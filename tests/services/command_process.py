"""A process with a Ray of its own that runs one command after another."""

#: Reads a JSON list of words a line, and prints the exit code of each command. Its retries do not wait long.
PROGRAM = """
import json, sys
import ray
from services.cli.main import main

def hurry():
    from services.preprocess import volume
    volume.PAUSES_S = (0.05, 0.1)

hurry()
options = dict(num_cpus=2, include_dashboard=False, logging_level="WARNING")
ray.init(address="local", runtime_env={"worker_process_setup_hook": hurry}, **options)
for line in sys.stdin:
    print("exit code", main(json.loads(line)), flush=True)
ray.shutdown()
"""
