"""How long each stage takes on 1 to 256 workers, and what saturates first.

    python -m benchmarks.capacity measure --store s3://BUCKET/FOLDER > rates.json
    python -m benchmarks.capacity check --store s3://BUCKET/FOLDER --rates rates.json
    python -m benchmarks.capacity model --rates rates.json --price-per-worker-hour 0.5 --plot capacity.png

The rates are JSON, meant to be edited: enter the units of your work, and the GPU time of a unit as
``worker_seconds``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.capacity import measure
from benchmarks.capacity.model import WORKERS, Resources, Stage, first_saturated, read_rates, table
from benchmarks.capacity.plot import plot


def _show(resources: Resources, stages: list[Stage], rows: list[dict[str, Any]]) -> None:
    for stage in stages:
        first = first_saturated(stage, resources)
        ending = "nothing is saturated" if first is None else f"the {first[0]} is saturated from {first[1]}"
        print(f"{stage.name}: {stage.units} x {stage.unit}; up to {WORKERS[-1]} workers {ending}")
        for row in (row for row in rows if row["stage"] == stage.name):
            cost = "" if row["cost"] is None else f"  cost {row['cost']:10.2f}"
            shares = " ".join(f"{name} {share:4.0%}" for name, share in row["busy"].items())
            print(
                f"  {row['workers']:>3} workers {row['seconds']:>11.1f} s "
                f"{row['worker_hours']:>9.2f} worker-hours{cost}  {shares}"
            )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="measure the resources of a unit; prints the rates")
    checking = commands.add_parser("check", help="compare the model with real runs on one and two workers")
    modelling = commands.add_parser("model", help="simulate 1 to 256 workers")
    for command in (measuring, checking):
        command.add_argument("--store", required=True, help="an s3:// folder for temporary data")
        command.add_argument(
            "--preset", default="tiny", choices=("tiny", "cpu"), help="the network (default: tiny)"
        )
    for command in (checking, modelling):
        command.add_argument("--rates", type=Path, required=True, help="the file of rates")
    modelling.add_argument("--price-per-worker-hour", type=float, help="adds the cost")
    modelling.add_argument("--plot", type=Path, help="plot time against workers to this file")
    for command in (checking, modelling):
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.command != "model":
        return measure.main(options)
    try:
        resources, stages = read_rates(options.rates)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    rows = table(resources, stages, options.price_per_worker_hour)
    if options.plot is not None:
        plot(resources, stages, rows, options.plot)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(resources, stages, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
