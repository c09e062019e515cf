"""The detection powers that reports carry: ``python -m benchmarks.power_table --data WORDS FILE...``.

Each file is the JSON of ``python -m benchmarks.sensitivity`` at another image count, on the same slices. The
table goes to stdout, and from there to ``services/eval/detection_power.json``.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.planted_faults import COPIES
from services.eval.sensitivity import TITLES, DetectionPowers, FaultPower, PowerTable

#: What must be the same in all results.
_COMMON: Final = ("slices", "all_scans", "side_px", "extractor", "repeats", "subsets", "seed")


def table_of(results: list[dict[str, Any]], data: str) -> PowerTable:
    """The table.

    Args:
        results: The documents that ``benchmarks.sensitivity`` prints.
        data: The collection, in words.

    Raises:
        ValueError: They are not of the same slices.
    """
    first = results[0]
    for name in _COMMON:
        if any(result[name] != first[name] for result in results):
            raise ValueError(f"the results differ in {name}; give results on the same slices")
    entries = sorted((_entry(result) for result in results), key=lambda entry: entry.images)
    subsets = " ".join(map(str, first["subsets"]))
    return PowerTable(
        data=f"{first['slices']} slices of {first['all_scans']} scans, {first['side_px']} px, of {data}",
        extractor=first["extractor"],
        command=f"python -m benchmarks.sensitivity --data SLICES --real {subsets} --images N "
        f"--repeats {first['repeats']} --seed {first['seed']} --json",
        entries=tuple(entries),
    )


def _entry(result: dict[str, Any]) -> DetectionPowers:
    faults = [
        FaultPower(
            fault=name,
            copies=name in COPIES,
            **{field: powers[title] for field, title in TITLES.items()},
        )
        for name, powers in result["faults"].items()
    ]
    return DetectionPowers(result["n"], result["scans"], result["repeats"], tuple(faults))


def main() -> int:
    """Read and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.power_table", description=__doc__)
    parser.add_argument("--data", required=True, help="the collection, in words")
    parser.add_argument("files", nargs="+", type=Path, help="JSON of python -m benchmarks.sensitivity")
    arguments = parser.parse_args()
    try:
        table = table_of([json.loads(path.read_bytes()) for path in arguments.files], arguments.data)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(table), ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
