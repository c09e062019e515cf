"""The command line that makes a report again."""

import shlex

from services.eval.config import EvalConfig


def command_of(config: EvalConfig) -> str:
    """The command line that makes this report again."""
    words = [
        "lungforge",
        "evaluate",
        "--real",
        config.real,
        "--synthetic",
        *config.synthetic,
        "--out",
        "REPORT",
    ]
    if config.subsets is not None:
        words += ["--subsets", *map(str, config.subsets)]
    words += ["--extractor", config.extractor, "--seed", str(config.seed)]
    if config.second_extractor is not None:
        words += ["--second-extractor", config.second_extractor]
    if config.second_architecture is not None:
        words += ["--second-architecture", config.second_architecture]
    if config.train_subsets is not None:
        words += ["--downstream", config.downstream, "--tasks", *config.tasks]
        words += ["--train-subsets", *map(str, config.train_subsets), "--ratios", *map(str, config.ratios)]
        words += ["--froc"] * config.froc
        words += ["--folds", str(config.folds), "--seeds", str(config.seeds)]
    words += ["--allow-leakage"] * config.allow_leakage
    words += ["--allow-near-duplicates"] * config.allow_near_duplicates
    return shlex.join(words)
