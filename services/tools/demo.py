"""``lungforge demo``: synthetic CT from the shipped model, a short training, and a report."""

import dataclasses
import shlex
from pathlib import Path
from typing import Final

from lungforge.config import check
from lungforge.errors import InputError
from services.cli.commands import execute
from services.common.config_file import keep_config
from services.common.progress import say
from services.common.ray_session import ray_session

#: Of the shipped slices: scans that the shipped model was trained on, and others that it has not seen.
SEEN_SUBSET: Final = 2
UNSEEN_SUBSET: Final = 3


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Sample synthetic CT with the shipped model, train a small one, and write a report, in minutes."""

    out: str = "build/demo"
    """Folder for all files of the demo; the same command again resumes."""

    def __post_init__(self) -> None:
        check(self)
        if "://" in self.out:
            raise InputError(f"--out is {self.out!r}; the demo needs a local folder")


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """Paths of the report and of two pictures, and the commands that made them, in order."""

    report: str
    pictures: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        return (f"open {self.report} in a browser",)


def steps(out: str) -> list[tuple[str, list[str]]]:
    """The commands of the demo, as pairs of name and options."""
    folder, shipped = shlex.quote(out), "--model lungforge://slices-64 --data lungforge://maps-64"
    lines = [
        f"sample {shipped} --subsets {SEEN_SUBSET} --per-map 2 --out {folder}/samples --workers 2",
        f"show {folder}/samples --sheet {folder}/samples.png",
        f"sample {shipped} --subsets {UNSEEN_SUBSET} --count 12 --edits move 1 resize 1 remove 1"
        f" --out {folder}/edited --workers 2",
        f"show {folder}/edited --sheet {folder}/edited.png",
        f"phantom --out {folder}/luna16 --series 16 --size 128 --slices 32",
        f"preprocess --source {folder}/luna16 --out {folder}/slices --size 32 --slices nodules",
        f"train --data {folder}/slices --out {folder}/model --preset tiny --steps 100 --workers 2",
        f"evaluate --real lungforge://maps-64 --subsets {UNSEEN_SUBSET} --synthetic {folder}/samples"
        f" --out {folder}/report",
    ]
    return [(words[0], words[1:]) for words in map(shlex.split, lines)]


def run(config: DemoConfig) -> DemoResult:
    """Run the demo in one Ray session, and print each command before it runs."""
    commands = []
    keep_config("demo", config, config.out)
    with ray_session(workers=2):
        for name, arguments in steps(config.out):
            command = shlex.join(["lungforge", name, *arguments])
            say(f"\n$ {command}")
            commands.append(command)
            execute(name, arguments)
    folder = Path(config.out).resolve()
    return DemoResult(
        report=str(folder / "report" / "report.html"),
        pictures=tuple(str(folder / name) for name in ("samples.png", "edited.png")),
        commands=tuple(commands),
    )
