"""Volumes, edits and the evaluation of rows work where PyTorch is not installed."""

import subprocess
import sys

CODE = """
import sys


class NotInstalled:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NotInstalled)

import lungforge
from lungforge.ct.phantoms.generate import generate_phantom

phantom = generate_phantom(0, 0, size=96, slices=16)
rows = lungforge.slice_volume(phantom.volume, range(4, 10), size=48)
edited = lungforge.edit_map(rows[2], "insert", diameters_mm=20)
results = lungforge.evaluate(rows[:3], rows[3:], extractor=None)
print(len(edited.nodules), results.near_duplicates, results.synthetic.slices)
"""


def test_volumes_edits_and_evaluation() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1"
    assert done.stdout.split()[-1] == "3"
