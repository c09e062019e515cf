"""Writes the locks from reports of ``pip install --dry-run --report``, with the hash of every file.

    python .ci/lock.py --pins ALL.json > pins.txt
    python .ci/lock.py RUNTIME.json ALL.json OPENCV.json

RUNTIME is of the package (requirements.lock), ALL of the package with its extra ``dev`` (whose additions are
requirements-dev.lock), OPENCV of the headless OpenCV that the image has (docker/opencv.lock).
"""

import json
import sys
from pathlib import Path

HEAD = "# Made by 'make lock' from pyproject.toml, for Python 3.11 on Linux x86_64. Do not edit.\n"
#: The package itself, and pip, which installs the others.
LEFT_OUT = {"lungforge", "pip"}


def pins(report: str) -> dict[str, str]:
    """Name==version to sha256 of every package of a report."""
    packages = json.loads(Path(report).read_text(encoding="utf-8"))["install"]
    named = {package["metadata"]["name"].lower().replace("_", "-"): package for package in packages}
    return {
        f"{name}=={package['metadata']['version']}": package["download_info"]["archive_info"]["hashes"][
            "sha256"
        ]
        for name, package in sorted(named.items())
        if name not in LEFT_OUT
    }


def main() -> None:
    """Write the locks, or print the pins of one report."""
    if sys.argv[1] == "--pins":
        sys.stdout.write("".join(f"{pin}\n" for pin in pins(sys.argv[2])))
        return
    runtime, everything, opencv = map(pins, sys.argv[1:])
    development = {pin: sha256 for pin, sha256 in everything.items() if pin not in runtime}
    locks = {"requirements.lock": runtime, "requirements-dev.lock": development, "docker/opencv.lock": opencv}
    for path, pinned in locks.items():
        lines = "".join(f"{pin} --hash=sha256:{sha256}\n" for pin, sha256 in pinned.items())
        Path(path).write_text(HEAD + lines, encoding="utf-8")


if __name__ == "__main__":
    main()
