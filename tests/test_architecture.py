"""Who may import whom, and which door a third party stays behind."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED: dict[str, set[str]] = {
    "store": set(),
    "embed": set(),
    "icl": {"store"},
    "federated": {"embed"},
    "proxy": {"store", "embed", "icl"},
}
DOORS: dict[str, set[str]] = {
    "fastapi": {"proxy"},
    "starlette": {"proxy"},
    "uvicorn": {"proxy"},
    "pydantic": {"proxy"},
    "pydantic_settings": {"proxy"},
    "prometheus_client": {"proxy"},
    "litellm": {"proxy"},
    "jinja2": {"proxy"},
    "opentelemetry": {"proxy"},
    "xllamacpp": {"proxy"},
    "torch": {"embed", "federated"},
    "onnx": {"embed"},
    "onnxruntime": {"embed", "federated"},
    "sentence_transformers": {"embed", "federated"},
    "hnswlib": {"store"},
    "re2": {"store"},
    "sqlite3": {"store"},
    "redis": {"store"},
    "flwr": {"federated"},
}
AIOHTTP = {"proxy", "embed/remote_encoder.py"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_its_allowed_siblings(package: str) -> None:
    for file in files(package):
        siblings = {name for name in imports(file) if name in ALLOWED} - {package}
        assert siblings <= ALLOWED[package], file


@pytest.mark.parametrize("package", ALLOWED)
def test_third_parties_stay_behind_their_door(package: str) -> None:
    for file in files(package):
        for name in imports(file):
            assert package in DOORS.get(name, {package}), f"{file} imports {name}"
            if name == "aiohttp":
                place = str(file.relative_to(ROOT))
                assert package in AIOHTTP or place in AIOHTTP, f"{file} imports aiohttp"


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f():\n    from embed.encoder import Encoder\n")
    assert "embed" in set(imports(tmp_path / "bad.py"))


def test_the_serving_process_never_loads_torch() -> None:
    code = (
        "import sys, proxy.app, proxy.cli, proxy.server, embed.onnx_encoder, store.cache;"
        "heavy = {'torch', 'sentence_transformers', 'transformers', 'litellm', 'onnx'};"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_functions_and_files_stay_small() -> None:
    for package in ALLOWED:
        for file in files(package):
            text = file.read_text()
            assert text.count("\n") <= 400, f"{file} is over 400 lines: split it"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno
                    assert length <= 60, f"{file}:{node.name} is {length} lines long"
