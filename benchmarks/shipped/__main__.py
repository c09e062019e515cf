"""Makes what comes with LungForge at ``lungforge://NAME``, in ``lungforge/pretrained``.

    python -m benchmarks.shipped maps --data URI --name maps-64 --subsets 2 3
    python -m benchmarks.shipped model --model URI --report URI --name slices-64 --minutes "180 on two cores"

The second writes the weights of a trained model in half precision, and its card from an evaluation of its
samples. The evaluation is of samples of the model itself, whose training slices are at hand, so that
memorisation is measured; or of samples of the copy. Without ``--report`` the card says that nothing is
measured yet; the same command with one writes the card again, and leaves the weights.
"""

import argparse
import sys

from benchmarks.shipped.card import ModelCard
from benchmarks.shipped.maps import write_maps
from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset
from lungforge.models.pretrained import HalfPrecision, write_pretrained
from lungforge.storage import join_uri, packaged, write_bytes_atomic
from services.eval.results import EvaluationReport


def make_model(
    model: str, report: str | None, name: str, minutes: str, dtype: HalfPrecision, folder: str
) -> Dataset:
    """Write a pretrained model and its card.

    Args:
        model: URI of the trained model.
        report: URI of an evaluation of its samples; None for none yet.
        name: Of the pretrained model.
        minutes: Minutes that it was trained for, and on what: "180 on two cores".
        dtype: Of the weights.
        folder: Where the pretrained models are.

    Raises:
        InputError: The model cannot be shipped, or the report is not of it.
    """
    original = ModelDataset.open(model)
    measured = None
    if report is not None:
        measured = EvaluationReport.from_json(Dataset.open(report, Kind.REPORT).read_file("metrics.json"))
    dataset = write_pretrained(original, join_uri(folder, name), dtype)
    shipped = ModelDataset.of(dataset)
    parameters = sum(tensor.numel() for tensor in shipped.read_weights().values())
    card = ModelCard(name, shipped, original.dataset.manifest_sha256, parameters, minutes, measured)
    write_bytes_atomic(join_uri(dataset.uri, "card.md"), card.to_markdown().encode())
    return dataset


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0 when done, 2 for bad input."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shipped", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model", help="a trained model, in half precision, with its card")
    model.add_argument("--model", required=True, help="URI of the trained model")
    model.add_argument("--report", help="URI of an evaluation of samples of it")
    model.add_argument("--name", required=True, help="what it is called: lungforge://NAME")
    model.add_argument("--minutes", required=True, help='how long it was trained: "180 on two cores"')
    model.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16", help="of the weights")
    maps = commands.add_parser("maps", help="slices and label maps, chosen by a rule")
    maps.add_argument("--data", required=True, help="URI of the slices")
    maps.add_argument("--name", required=True, help="what they are called: lungforge://NAME")
    maps.add_argument("--subsets", type=int, nargs="+", required=True, help="which")
    maps.add_argument("--count", type=int, help="how many, spread evenly (default: all that fit the rule)")
    for each in (model, maps):
        each.add_argument("--folder", default=str(packaged.FOLDER), help="where to (default: the package)")
    given = parser.parse_args(arguments)
    try:
        if given.command == "model":
            made = make_model(given.model, given.report, given.name, given.minutes, given.dtype, given.folder)
        else:
            data = Dataset.open(given.data, Kind.SLICES)
            made = write_maps(data, join_uri(given.folder, given.name), given.subsets, given.count)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{made.uri}: {made.manifest.nbytes / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
