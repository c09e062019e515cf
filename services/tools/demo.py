"""``lungforge demo``: the whole pipeline on phantoms, with the commands a user would type."""

import dataclasses
import shlex
from pathlib import Path

from lungforge.config import check
from lungforge.errors import InputError
from services.cli.commands import execute
from services.common.progress import say
from services.common.ray_session import ray_session

#: Subsets for training and for maps; the others are held-out real slices.
TRAIN_SUBSETS = ("0", "1", "2", "3", "4", "5", "6")
TEST_SUBSETS = ("7", "8", "9")


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Run the whole pipeline on synthetic phantoms, up to the report, in minutes."""

    out: str = "build/demo"
    """Folder for all files of the demo; the same command again resumes."""

    def __post_init__(self) -> None:
        check(self)
        if "://" in self.out:
            raise InputError(f"--out is {self.out!r}; the demo needs a local folder")


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """Path of the report, and the commands that made it, in order."""

    report: str
    commands: tuple[str, ...]


def steps(out: str) -> list[tuple[str, list[str]]]:
    """The commands of the demo, as pairs of name and options."""
    folder, train, test = shlex.quote(out), " ".join(TRAIN_SUBSETS), " ".join(TEST_SUBSETS)
    lines = [
        f"phantom --out {folder}/luna16 --series 40 --size 192 --slices 40",
        f"preprocess --source {folder}/luna16 --out {folder}/slices"
        " --size 32 --slices nodules --healthy-every 4",
        f"train --data {folder}/slices --out {folder}/model"
        f" --preset tiny --steps 600 --subsets {train} --workers 2",
        f"sample --model {folder}/model --data {folder}/slices --out {folder}/samples"
        f" --subsets {train} --count 256 --workers 2",
        f"evaluate --real {folder}/slices --synthetic {folder}/samples --out {folder}/report"
        f" --subsets {test}",
    ]
    return [(words[0], words[1:]) for words in map(shlex.split, lines)]


def run(config: DemoConfig) -> DemoResult:
    """Run the demo in one Ray session, and print each command before it runs."""
    commands = []
    with ray_session(workers=2):
        for name, arguments in steps(config.out):
            command = shlex.join(["lungforge", name, *arguments])
            say(f"\n$ {command}")
            commands.append(command)
            execute(name, arguments)
    return DemoResult(
        report=str(Path(config.out, "report", "report.html").resolve()), commands=tuple(commands)
    )
