"""The numbers of an evaluation as Markdown tables: ``python -m benchmarks.study_table --report URI``.

Writes what ``docs/study-luna16-mini.md`` holds, from the ``metrics.json`` of ``lungforge evaluate``.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from services.eval.downstream.results import MINUS, name_of


def tables(document: dict[str, Any]) -> Iterator[str]:
    """The lines of all tables."""
    yield from (f"- {sentence}" for sentence in document["verdict"])
    yield ""
    yield "| slices | n | Fréchet distance | real to real | KID | precision | recall | near-copies |"
    yield "|---|---|---|---|---|---|---|---|"
    for numbers in document["sets"]:
        equal, share = numbers["frechet"]["at_equal_n"], numbers["precision_recall"]
        yield (
            f"| {numbers['name']} | {numbers['images']} | "
            f"{_number(equal['synthetic_mean'], 1)} ± {_number(equal['synthetic_spread'], 1)} | "
            f"{_number(equal['real_mean'], 1)} ± {_number(equal['real_spread'], 1)} | "
            f"{_number(numbers['kernel']['mean'], 4)} ± {_number(numbers['kernel']['spread'], 4)} | "
            f"{_number(share['precision']['value'])} | {_number(share['recall']['value'])} | "
            f"{numbers['twins']['near_copies']} of {numbers['twins']['checked']} |"
        )
    yield ""
    names = [numbers["name"] for numbers in document["sets"]]
    yield f"| median HU | real | {' | '.join(names)} |"
    yield "|---|---|" + "---|" * len(names)
    for row, *others in zip(*(numbers["hounsfield_units"] for numbers in document["sets"]), strict=True):
        medians = [row["real"]["median"], *(each["synthetic"]["median"] for each in (row, *others))]
        yield f"| {row['class']} | {' | '.join(_number(median, 0) for median in medians)} |"
    for task in document["downstream"]["tasks"]:
        yield ""
        yield from _of_task(task)


def _of_task(task: dict[str, Any]) -> Iterator[str]:
    test = ", ".join(
        f"{value} {name.replace('_', ' ')}" for name, value in task["test"].items() if isinstance(value, int)
    )
    yield f"{task['task'].capitalize()}: {task['networks_per_arm']} networks an arm; test set: {test}."
    yield ""
    headline = task["headline"]
    measures = sorted(task["arms"][0]["values"], key=lambda name: (name != headline, name.endswith("mm")))
    yield f"| arm | trained on | {' | '.join(map(name_of, measures))} | difference to real, 95 % interval |"
    yield "|---|---|" + "---|" * (len(measures) + 1)
    for arm in task["arms"]:
        found = [arm["values"][name] for name in measures]
        values = [f"{_number(value['mean'])} ± {_number(value['spread'])}" for value in found]
        pictures = ", ".join(map(str, arm["training_pictures"]))
        difference = "–"
        if arm["difference_to_real"]:
            interval = arm["difference_to_real"][headline]
            low, high = (_number(interval[edge], signed=True) for edge in ("low", "high"))
            difference = f"{_number(interval['difference'], signed=True)} ({low} to {high})"
        yield f"| {arm['name']} | {pictures} | {' | '.join(values)} | {difference} |"
    yield ""
    yield f"The difference is of {name_of(headline)}."


def _number(value: float | None, places: int = 3, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", MINUS)


def main() -> int:
    """Print the tables of a report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study_table", description=__doc__)
    parser.add_argument("--report", required=True, help="a report, as `lungforge evaluate` wrote it")
    arguments = parser.parse_args()
    try:
        document = json.loads(Dataset.open(arguments.report, Kind.REPORT).read_file("metrics.json"))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if document["downstream"] is None:
        print(f"{arguments.report} has no downstream tasks; evaluate with --downstream", file=sys.stderr)
        return 2
    print("\n".join(tables(document)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
