"""Do two versions of the code make the same bytes? Pixels, maps and weights of a tiny chain, compared.

    python tests/compare_chains.py make FOLDER   run the chain with the code on PYTHONPATH
    python tests/compare_chains.py compare FOLDER FOLDER       exit 1 where values differ

Needs no LungForge to compare, so that it reads what any version wrote: values are compared, not files, since
the names of fields and columns may change.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

MODELS = ("sdm", "gaugan")
DATASETS = (
    "slices",
    "slices/crops",
    *(f"samples-{name}" for name in ("sdm", "ddim", "edits", "inpainted", "gaugan")),
)


def chain(folder: Path) -> list[list[str]]:
    """The commands of the chain, each as its words."""
    slices = f"--data {folder}/slices"
    sample = f"sample --model {folder}/model-sdm {slices} --subsets 0 1 --steps 5 --workers 2"
    lines = [
        f"phantom --out {folder}/luna16 --series 6 --size 96 --slices 24",
        f"preprocess --source {folder}/luna16 --out {folder}/slices --size 32 --slices nodules"
        " --healthy-every 4 --crops",
        *(
            f"train {slices} --out {folder}/model-{model} --model {model} --preset tiny --steps 8 --workers 2"
            " --checkpoint-every 3"
            for model in MODELS
        ),
        f"{sample} --out {folder}/samples-sdm --count 8",
        f"{sample} --out {folder}/samples-ddim --count 6 --sampler ddim --guidance 2",
        f"{sample} --out {folder}/samples-edits --count 10 --sampler dpmpp"
        " --edits move 1 insert 1 remove 1 resize 1",
        f"{sample} --out {folder}/samples-inpainted --count 4 --edits move 1 insert 1 --inpaint",
        f"sample --model {folder}/model-gaugan {slices} --subsets 0 1"
        f" --out {folder}/samples-gaugan --count 8",
    ]
    return [line.split() for line in lines]


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of the values of every image, map and weight of a chain."""
    values = {}
    for name in DATASETS:
        manifest = json.loads((folder / name / "manifest.json").read_text("utf-8"))
        for column in ("image", "label"):
            digest = hashlib.sha256()
            for part in manifest["parts"]:
                table = pq.read_table(folder / name / part["path"], columns=[column])
                chunks = table.column(0).combine_chunks()
                array = chunks.storage if isinstance(chunks, pa.ExtensionArray) else chunks
                while hasattr(array, "flatten") and pa.types.is_nested(array.type):
                    array = array.flatten()
                digest.update(array.to_numpy(zero_copy_only=False).tobytes())
            values[f"{name}: {column}"] = digest.hexdigest()
    for model in MODELS:
        (file,) = (folder / f"model-{model}").glob("files-*/model.safetensors")
        digest = hashlib.sha256()
        for key, value in sorted(load_file(file).items()):
            digest.update(f"{key} {value.shape} {value.dtype}".encode() + value.tobytes())
        values[f"model-{model}: weights"] = digest.hexdigest()
    return values


def main() -> int:
    """Make a chain, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("folder", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("folders", type=Path, nargs=2)
    chosen = parser.parse_args()
    if chosen.command == "make":
        for words in chain(chosen.folder):
            subprocess.run([sys.executable, "-m", "services", *words], check=True)
        return 0
    before, after = map(digests, chosen.folders)
    for name, value in before.items():
        print(f"{'same' if value == after[name] else 'DIFFERENT':9} {name} {value[:16]}")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
