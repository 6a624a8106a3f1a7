"""The Dockerfile is in step with the project, and a linter has nothing to say about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy.settings import Settings
from tests.deploy.dockerfile import ROOT, let_through, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
BUILD, IMAGE = stages()


def tool(name: str) -> str:
    """Return the path of a tool of the development extras."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found is not None, f"{name} is not installed"
    return found


def lint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("hadolint"), str(file)], capture_output=True, text=True)


def test_the_linter_is_content() -> None:
    answer = lint(ROOT / "Dockerfile")
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


def test_the_linter_sees_a_fault(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert lint(bad).returncode == 1


def test_both_stages_start_from_the_python_of_the_project() -> None:
    wanted = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert {stage.base for stage in (BUILD, IMAGE)} == {f"python:{wanted}-slim-bookworm"}


def test_torch_is_the_makefiles_and_comes_before_anything_else() -> None:
    (pin,) = re.findall(r"\$\(PIP\) (torch==[\d.]+)$", MAKEFILE, re.MULTILINE)
    installs = [run for run in BUILD.values("RUN") if "pip install" in run]
    assert set(re.findall(r"torch==[\d.]+", installs[0])) == {pin}
    assert f"{pin}+cpu" in installs[0]
    assert pin in PROJECT["project"]["dependencies"]


def test_every_install_is_held_to_the_constraints() -> None:
    assert BUILD.env["PIP_CONSTRAINT"] == BUILD.env["PIP_BUILD_CONSTRAINT"]
    assert BUILD.env["PIP_CONSTRAINT"] == f"{BUILD.values('WORKDIR')[0]}/constraints.txt"
    copied = BUILD.instructions.index(next(i for i in BUILD.instructions if i.name == "COPY"))
    first = next(n for n, i in enumerate(BUILD.instructions) if "pip install" in i.value)
    assert "constraints.txt" in BUILD.instructions[copied].value and copied < first


@pytest.mark.parametrize("device", ["gpu", ""])
def test_an_unknown_device_ends_the_build_in_one_line(device: str) -> None:
    (choice,) = (run for run in BUILD.values("RUN") if "$DEVICE" in run)
    answer = subprocess.run(
        ["sh", "-c", choice], env={"DEVICE": device}, capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert answer.stderr == f"DEVICE: '{device}' is not allowed; allowed: cpu, cuda\n"


@pytest.mark.parametrize("extras", ["providers", "providers federated"])
def test_what_is_installed_is_what_the_project_needs_and_nothing_for_development(
    extras: str,
) -> None:
    assert "EXTRAS=providers" in BUILD.values("ARG")
    (listing,) = (run for run in BUILD.values("RUN") if "needed.txt" in run.split("&&")[0])
    code = re.findall(r'python -c "(.*?)" >', listing)[0]
    printed = subprocess.check_output(
        [sys.executable, "-c", code], cwd=ROOT, text=True, env={"EXTRAS": extras}
    )
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = [need for extra in extras.split() for need in optional[extra]]
    assert printed.split("\n")[:-1] == PROJECT["project"]["dependencies"] + wanted


def test_every_package_of_the_wheel_is_copied_into_the_build() -> None:
    copied = {word for value in BUILD.values("COPY") for word in value.split()[:-1]}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*wheel, PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= copied


def test_the_build_sees_what_it_copies_and_neither_secrets_nor_history() -> None:
    for stage in (BUILD, IMAGE):
        for value in stage.values("COPY"):
            if not value.startswith("--from"):
                for source in value.split()[:-1]:
                    assert (ROOT / source).exists() and let_through(source), source
    assert let_through("store/starter_policies.yaml")
    assert let_through("store/decision/score.json")
    unwanted = [".env", ".git/config", ".venv/bin/python", "tests/harness.py", "bench/suite.py"]
    unwanted += ["deploy/secrets/redis_password", "nearhit-data/nearhit.sqlite", "shared/data"]
    for path in [*unwanted, "proxy/__pycache__/app.pyc"]:
        assert not let_through(path), path


def test_the_checkpoint_is_built_from_the_installed_package() -> None:
    (export,) = (i for i in BUILD.instructions if "embed.export" in i.value)
    before = BUILD.instructions[: BUILD.instructions.index(export)]
    assert [i.value for i in before if i.name == "WORKDIR"][-1] == "/opt/nearhit"
    assert any(i.value.endswith("pip install --no-deps .") for i in before)


def test_it_runs_as_a_fixed_user_who_is_not_root() -> None:
    uid, gid = IMAGE.values("USER")[-1].split(":")
    assert int(uid) > 999 and int(gid) > 999
    (made,) = IMAGE.values("RUN")
    assert f"useradd --uid {uid} --gid {gid}" in made


def test_it_listens_and_is_checked_where_it_says() -> None:
    serve = IMAGE.last_list("CMD")
    port = serve[serve.index("--port") + 1]
    assert IMAGE.values("EXPOSE") == [port] == [str(Settings().server.port)]
    assert IMAGE.last_list("HEALTHCHECK") == ["nearhit-health"]
    assert f'"/health", "{port}"' in (ROOT / "deploy" / "health.py").read_text()


def test_it_fetches_nothing_and_holds_no_secret() -> None:
    assert IMAGE.env["HF_HUB_OFFLINE"] == "1"
    for stage in (BUILD, IMAGE):
        named = [*stage.env, *stage.values("ARG")]
        assert not [n for n in named if re.search("KEY|PASSWORD|SECRET|TOKEN", n, re.IGNORECASE)]


def test_its_commands_are_executable_files() -> None:
    for value in IMAGE.values("COPY"):
        source, target = value.split()[-2:]
        if target.startswith("/usr/local/bin/"):
            assert os.access(ROOT / source, os.X_OK), source
