"""Says why this Python cannot take the locks, before anything is downloaded; runs on any Python 3."""

import platform
import sys


def refusal(version: str, system: str, machine: str) -> str:
    """What to do where the locks do not fit; nothing where they do."""
    if not version.startswith("3.11."):
        return (
            f"the locks are for Python 3.11, and this is {version}: make install PYTHON=/path/to/python3.11; "
            "or without locks, on Python 3.11 to 3.13: pip install '.[all]' (docs/install.md)"
        )
    if (system, machine) != ("Linux", "x86_64"):
        return (
            f"the locks are for Linux on x86_64, and this is {system} on {machine}; without locks: "
            "pip install . (docs/install.md says which extras there are for it)"
        )
    return ""


if __name__ == "__main__":
    reason = refusal(platform.python_version(), platform.system(), platform.machine())
    if reason:
        sys.stderr.write("LungForge: " + reason + "\n")
        sys.exit(2)
