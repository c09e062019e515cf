"""The commands of ``lungforge``: what each is for, and how its arguments become a configuration.

The configuration dataclasses are the only truth: names, defaults and help texts of the command line are
theirs. Modules are imported when a command needs them, so that ``--help`` answers at once.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from lungforge.extras import require_extras
from lungforge.public_uri import public_text, require_public
from services.cli.help import wrapped
from services.cli.reading import Form, read
from services.common.progress import waiting


@dataclasses.dataclass(frozen=True)
class Command:
    """One word of the command line.

    Attributes:
        summary: What it does, in a line.
        example: The arguments of an example, for its help.
        config: Where its configuration dataclass is, as ``module:name``.
        run: Where the function is that takes the configuration and returns a result dataclass.
        presets: Where its named presets are, if it has any: name to a function that takes the arguments of
            the configuration that have no default, and those of ``variants`` that are given, and returns a
            configuration. One of them must be named.
        variants: The options that a preset depends on beside its name.
        notes: What else its help says before the options.
        takes_command: Whether its last argument is a command of its own, options and all.
        extras: What it needs beside the core, by the names of ``pyproject.toml``.
    """

    summary: str
    config: str
    run: str
    example: str = ""
    presets: str | None = None
    variants: tuple[str, ...] = ()
    notes: str = ""
    takes_command: bool = False
    extras: tuple[str, ...] = ()


COMMANDS = {
    "demo": Command(
        "sample with the shipped model, train a small one, and write a report, in minutes",
        "services.tools.demo:DemoConfig",
        "services.tools.demo:run",
        extras=("train", "eval"),
    ),
    "phantom": Command(
        "generate a small data set of synthetic phantoms in the layout of LUNA16",
        "services.tools.phantom:PhantomConfig",
        "services.tools.phantom:run",
        example="--out luna16 --series 8",
    ),
    "preprocess": Command(
        "turn LUNA16 volumes into slices and semantic maps",
        "services.preprocess.config:PreprocessConfig",
        "services.preprocess.job:run",
        example="--source LUNA16 --out slices --size 256",
    ),
    "train": Command(
        "train a generator on slices and maps",
        "services.train.config:TrainConfig",
        "services.train.job:run",
        example="--preset cpu --data slices --out model --subsets 0,1,2",
        presets="services.train.presets:PRESETS",
        variants=("model", "workers"),
        extras=("train",),
    ),
    "ema": Command(
        "make a model with weights averaged over another stretch of its training",
        "services.tools.ema:EmaConfig",
        "services.tools.ema:run",
        example="model --length 0.05 --out sharper",
        extras=("sample",),
    ),
    "import-checkpoint": Command(
        "turn a network that was trained elsewhere into a model to sample with",
        "services.tools.import_checkpoint:ImportConfig",
        "services.tools.import_checkpoint:run",
        example="weights.pt --out model --size 256",
        extras=("sample",),
    ),
    "models": Command(
        "list the models and label maps that come with LungForge, and how to use them",
        "services.tools.models:ModelsConfig",
        "services.tools.models:run",
    ),
    "sample": Command(
        "sample synthetic slices from maps",
        "services.sample.config:SampleConfig",
        "services.sample.job:run",
        example="--model lungforge://slices-64 --data lungforge://maps-64 --out samples --count 8",
        extras=("sample",),
    ),
    "evaluate": Command(
        "measure synthetic slices against real ones, and write a report",
        "services.eval.config:EvalConfig",
        "services.eval.job:run",
        example="--real lungforge://maps-64 --synthetic samples --out report --subsets 3",
        extras=("eval",),
    ),
    "nightly": Command(
        "evaluate the newest model of a store, append to its history, and say whether it got worse",
        "services.nightly.config:NightlyConfig",
        "services.nightly.job:run",
        example="--store s3://lab --count 256",
        notes="A night is worse, and the exit code 3, when a metric (radiomic distance, Hounsfield units, "
        "KID, Fréchet distance, near-duplicates or memorised share) is above mean + 3 spreads of the last 14 "
        "good nights (4 at least). The same date again does nothing when the night is done, and resumes it "
        "otherwise. A lease keeps two runs at once apart.",
        extras=("eval",),
    ),
    "submit": Command(
        "run one of these on a Ray cluster, follow its log, and leave with its exit code",
        "services.submit.config:SubmitConfig",
        "services.submit.job:run",
        example="--address http://HOST:8265 train --config s3://lab/train.toml",
        notes="Its own options stand before the stage: lungforge submit --address URL train --data URI ... "
        "The same command again attaches to the job that runs, or resumes one that has failed. "
        "Ctrl-C leaves the job running.",
        takes_command=True,
        extras=("ray",),
    ),
    "show": Command(
        "say what a dataset is and what it was made from; make a contact sheet",
        "services.tools.show:ShowConfig",
        "services.tools.show:run",
        example="samples --sheet samples.png",
    ),
    "score-candidates": Command(
        "score a detector's candidates for nodules by the rules of LUNA16",
        "services.tools.score_candidates:ScoreConfig",
        "services.tools.score_candidates:run",
        example="--candidates candidates.csv --annotations annotations.csv --scans seriesuids.csv",
        notes="The result is sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan, their mean "
        "(CPM), and 95 % intervals from 1,000 bootstraps over the scans. Nothing is written.",
    ),
    "export": Command(
        "write datasets for other programs: PNG, COCO, YOLO, nnU-Net, NIfTI, DICOM, MetaImage, class folders",
        "services.export.config:ExportConfig",
        "services.export.job:run",
        example="--data samples --out coco --format coco",
    ),
    "completion": Command(
        "print a script by which bash, zsh or fish completes commands and options",
        "services.tools.completion:CompletionConfig",
        "services.tools.completion:run",
        example="bash > lungforge.bash",
    ),
}


def execute(name: str, arguments: Sequence[str]) -> Any:
    """Run one command to its end.

    Args:
        name: A key of ``COMMANDS``.
        arguments: Its options, as on the command line.

    Returns:
        The result of the command, a dataclass instance; a dict where another process had it.

    Raises:
        InputError: An argument, or something that it names, is wrong; or the command needs an extra.
        SystemExit: ``--help`` was asked for (code 0), or an option is unknown or malformed (code 2).
    """
    command = COMMANDS[name]
    require_extras(command.extras, "this command")
    config = parse(name, arguments)
    with waiting("loading", logged=False):
        run: Callable[[Any], Any] = load(command.run)
    return run(config)


def parse(name: str, arguments: Sequence[str]) -> Any:
    """The configuration that a command's arguments describe; raises as ``execute`` does."""
    _require_public(arguments)
    return read(form_of(name), arguments)


def form_of(name: str) -> Form:
    """What the arguments of a command may be."""
    command = COMMANDS[name]
    return Form(
        command=name,
        config_class=load(command.config),
        description=f"{command.summary[0].upper()}{command.summary[1:]}. {command.notes}".rstrip(),
        example=command.example,
        presets=load(command.presets) if command.presets else {},
        variants=command.variants,
        takes_command=command.takes_command,
    )


def _require_public(arguments: Sequence[str]) -> None:
    """Refuse secrets in URIs before tyro quotes an argument that it does not understand."""
    option = "an argument"
    for word in arguments:
        if word.startswith("--"):
            option = public_text(word.partition("=")[0])
        require_public(option, word)


def load(path: str) -> Any:
    """What a path of a ``Command``, ``module:name``, leads to."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def overview() -> str:
    """What ``lungforge --help`` prints."""
    columns = max(map(len, COMMANDS)) + 4
    lines = [
        "usage: lungforge COMMAND [options]",
        "",
        *wrapped("Synthetic chest CT from semantic maps, and an honest measure of its worth."),
        "",
    ]
    for name, command in COMMANDS.items():
        lines += wrapped(command.summary, first=f"  {name}".ljust(columns), indent=columns)
    for text in (
        "lungforge COMMAND --help tells a command's options. --json prints the result as one JSON line; "
        "--config FILE.toml reads options from a file.",
        "Datasets are folders at a path or URI (s3://bucket/folder; the usual AWS_ variables are read).",
        "Jobs run on the Ray cluster that RAY_ADDRESS names, else on this machine (see submit).",
        "Exit codes: 0 done, 1 failure, 2 usage or bad input, 3 worse (nightly), 130 interrupted.",
    ):
        lines += ["", *wrapped(text)]
    return "\n".join(lines)
