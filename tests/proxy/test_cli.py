"""The command line: exit status 0, 1 or 2, a line per fault, results alone on stdout."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from proxy.cli import app
from proxy.settings import load_settings
from proxy.upkeep import utc_now
from store.documents.sqlite import SqliteDocuments
from store.entry import Entry, EntryId, PartitionKey
from store.policy import Policy, PolicyBook
from store.policy_file import load_policies
from store.policy_history import PolicyHistory, read_seed

FAULTY = """
server: {port: -1, hots: x}
upstreams: [{name: main, base_url: nowhere}]
policies: bad.yaml
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEARHIT_CONFIG", raising=False)
    monkeypatch.delenv("NEARHIT_DATA", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def config_in(directory: Path, text: str = "") -> Path:
    file = directory / "nearhit.yaml"
    file.write_text(text or f"data_dir: {directory}\n")
    return file


def test_check_accepts_a_good_configuration(tmp_path: Path) -> None:
    done = run("check", "--config", config_in(tmp_path))
    assert done.exit_code == 0
    assert done.stdout.endswith("ok (0 upstreams, 10 categories)\n")


def test_check_says_each_fault_in_a_line_of_its_own(tmp_path: Path) -> None:
    done = run("check", "--config", config_in(tmp_path, FAULTY))
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(str(tmp_path / "nearhit.yaml")) for line in lines)


@pytest.mark.parametrize(
    "text",
    ["a: 2026-13-45\n", "a: " + "[" * 5000, "hot_bytes: " + "9" * 400 + "\n"],
    ids=["a day on no calendar", "nested deeply", "a huge number"],
)
def test_check_refuses_in_one_line_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    for config in (text, f"policies: {tmp_path}/p.yaml\n"):
        done = run("check", "--config", config_in(tmp_path, config))
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1


def test_policies_are_found_beside_the_config_and_refused_whole(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("categories: [{name: a, ttl: soon}, {name: b, mode: x}]")
    config = config_in(tmp_path, "policies: p.yaml\n")
    for command in (("check",), ("serve",), ("policies", "show"), ("policies", "check")):
        done = run(*command, "--config", config)
        assert done.exit_code == 2
        assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
            str(tmp_path / "p.yaml")
        ] * 2


def test_a_key_may_not_name_an_unknown_category(tmp_path: Path) -> None:
    auth = {"keys": [{"sha256": "a" * 64, "tenant": "acme", "categories": ["nope"]}]}
    done = run("check", "--config", config_in(tmp_path, yaml.safe_dump({"auth": auth})))
    assert done.exit_code == 2
    assert "'nope' is not allowed; allowed: code, howto, " in done.stderr


def test_an_unset_key_variable_is_warned_of(tmp_path: Path) -> None:
    text = "upstreams: [{name: u, base_url: 'http://x/v1', api_key_env: NO_SUCH_KEY}]\n"
    done = run("check", "--config", config_in(tmp_path, text))
    assert done.exit_code == 0
    assert "NO_SUCH_KEY is not set" in done.stderr


KEYED = """
upstreams: [{name: main, base_url: 'http://x/v1', api_key_env: MAIN_KEY}]
auth: {keys: [{sha256: "%s", tenant: acme, upstream_key_env: ACME_KEY}]}
""" % ("a" * 64)


def test_a_key_that_no_header_can_carry_is_refused_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIN_KEY", "sk-first\nsk-second")
    monkeypatch.setenv("ACME_KEY", "sk-\N{EN DASH}pasted")
    for command in ("check", "serve"):
        done = run(command, "--config", config_in(tmp_path, KEYED))
        assert done.exit_code == 2
        assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
            "upstreams.main.api_key_env",
            "auth.keys.acme.upstream_key_env",
        ]
        assert "the value of MAIN_KEY (hidden) is not allowed; allowed: " in done.stderr
        assert "first" not in done.stderr and "pasted" not in done.stderr


def test_a_base_url_that_is_none_is_refused_where_nothing_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:9000/v1")
    for command in ("check", "serve"):
        done = run(command, "--config", config_in(tmp_path))
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == (
            "environment: OPENAI_BASE_URL: 'localhost:9000/v1' is not allowed;"
            " a URL such as http://127.0.0.1:9000/v1\n"
        )


def test_a_key_pasted_where_its_variable_belongs_is_not_printed(tmp_path: Path) -> None:
    text = "upstreams: [{name: u, base_url: 'http://x/v1', api_key_env: sk-secret}]\n"
    done = run("check", "--config", config_in(tmp_path, text))
    assert done.exit_code == 0
    assert "upstreams.u.api_key_env" in done.stderr and "secret" not in done.stderr


def test_a_small_model_that_no_upstream_serves_is_refused(tmp_path: Path) -> None:
    text = "upstreams: [{name: u, base_url: 'http://x/v1', models: [large]}]\n"
    done = run("check", "--config", config_in(tmp_path, text + "offload: [{model: m, small: s}]\n"))
    assert done.exit_code == 2
    assert "offload.0.small: 's' is served by no upstream; allowed: large" in done.stderr


def test_policies_show_prints_what_a_policies_file_may_hold(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    as_yaml = run("policies", "show", "--config", config)
    as_json = run("policies", "show", "--config", config, "--json")
    shown = tmp_path / "shown.yaml"
    shown.write_text(as_yaml.stdout)
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)
    checked = json.loads(run("policies", "check", shown, "--json").stdout)
    assert checked["categories"] == load_policies(None).names


def test_version_is_printed() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout.count(".")) == (0, 2)


async def stored(directory: Path, asked: str = "question {}") -> list[EntryId]:
    documents = SqliteDocuments.open(directory)
    ids = [EntryId(f"{number:032x}") for number in range(3)]
    for number, id in enumerate(ids):
        await documents.put(
            Entry(
                id=id,
                key=PartitionKey("p", ""),
                tenant="acme" if number else "zeta",
                category="default",
                route="/v1/chat/completions",
                model="m",
                query=asked.format(number),
                tags=("kettle",) if number == 2 else (),
                created_at=datetime.now(UTC),
                content_type="application/json",
                body=b'{"n": %d}' % number,
                checkpoint="c",
                vector=None,
            )
        )
    await documents.aclose()
    return ids


@pytest.fixture
async def shelf(tmp_path: Path) -> tuple[Path, list[EntryId]]:
    return config_in(tmp_path), await stored(tmp_path)


def listed(config: Path) -> list[str]:
    rows = json.loads(run("entries", "list", "--config", config, "--json").stdout)["entries"]
    return [row["query"] for row in rows]


def test_entries_are_listed_and_shown(shelf: tuple[Path, list[EntryId]]) -> None:
    config, ids = shelf
    assert listed(config) == ["question 2", "question 1", "question 0"]
    page = run("entries", "list", "--config", config, "--limit", "2")
    assert page.stdout.count("\n") == 2
    assert "more: --cursor" in page.stderr
    some = run("entries", "list", "--config", config, "--tenant", "zeta", "--json")
    assert [row["query"] for row in json.loads(some.stdout)["entries"]] == ["question 0"]
    shown = json.loads(run("entries", "show", ids[1], "--config", config, "--json").stdout)
    assert (shown["query"], shown["answer"]) == ("question 1", '{"n": 1}')
    assert run("entries", "show", "nope", "--config", config).exit_code == 1
    assert run("entries", "list", "--cursor", "x", "--config", config).exit_code == 1


def test_what_a_client_asked_cannot_steer_the_terminal(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    asked = "\x1b[2K{}\x9b1A \u202eeslaf \N{NO-BREAK SPACE}caf\u00e9\r?"
    id = asyncio.run(stored(tmp_path, asked))[0]
    for command in (("list",), ("show", id)):
        done = CliRunner().invoke(
            app, ["entries", *command, "--config", str(config)], color=True
        )  # as on a terminal: else click takes what is coloured out
        assert "\\x1b[2K0\\x9b1A \\u202eeslaf" in done.stdout and "caf\u00e9" in done.stdout
        assert not set("\x1b\x9b\u202e\r") & set(done.stdout)
    assert listed(config)[2] == asked.format(0)  # JSON has it as it was


@pytest.mark.parametrize(
    ("selector", "left"),
    [
        (["0" * 31 + "1"], ["question 2", "question 0"]),
        (["--tenant", "acme"], ["question 0"]),
        (["--tag", "kettle"], ["question 1", "question 0"]),
        (["--prefix", "question 0"], ["question 2", "question 1"]),
        (["--model", "m"], []),
        (["--category", "other"], ["question 2", "question 1", "question 0"]),
        (["--all"], []),
    ],
)
def test_entries_are_purged_by_each_selector_after_a_dry_run_that_changes_nothing(
    shelf: tuple[Path, list[EntryId]], selector: list[str], left: list[str]
) -> None:
    config, _ = shelf
    dry = json.loads(
        run("entries", "purge", *selector, "--config", config, "--dry-run", "--json").stdout
    )
    assert dry == {"matched": 3 - len(left), "purged": 0}
    assert len(listed(config)) == 3
    done = run("entries", "purge", *selector, "--config", config)
    assert done.stdout == f"{3 - len(left)} matched, {3 - len(left)} purged\n"
    assert listed(config) == left


def test_a_purge_without_a_server_is_in_the_audit_trail(
    shelf: tuple[Path, list[EntryId]], tmp_path: Path
) -> None:
    config, _ = shelf
    run("entries", "purge", "--all", "--config", config, "--dry-run")
    run("entries", "purge", "--tag", "kettle", "--config", config)

    async def trail() -> list[tuple[str, str, Any]]:
        documents = SqliteDocuments.open(load_settings(config).data_dir, read_only=True)
        rows = (await documents.records.audit(limit=10)).items
        await documents.aclose()
        return [(row.who, row.action, json.loads(row.after or "{}")) for row in rows]

    what = {"tag": "kettle", "matched": 1, "purged": 1}
    assert asyncio.run(trail()) == [("nearhit entries purge", "purge", what)]


@pytest.mark.parametrize("name", ["tenant", "model", "tag", "prefix", "category", "similar-to"])
def test_an_empty_selector_is_refused_and_takes_nothing(
    shelf: tuple[Path, list[EntryId]], name: str
) -> None:
    config, _ = shelf
    done = run("entries", "purge", f"--{name}", "", "--config", config)
    assert done.exit_code == 2
    assert "at least 1 character" in done.stderr
    assert len(listed(config)) == 3


def test_a_purge_takes_exactly_one_selector(shelf: tuple[Path, list[EntryId]]) -> None:
    config, _ = shelf
    for selectors in ([], ["--all", "--tenant", "acme"]):
        done = run("entries", "purge", *selectors, "--config", config)
        assert done.exit_code == 1
        assert "give one of" in done.stderr
    assert len(listed(config)) == 3


def test_policies_show_prints_what_was_edited_over_the_admin_api(tmp_path: Path) -> None:
    (tmp_path / "policies.yaml").write_text("categories: [{name: default, hit_threshold: 0.9}]")
    config = config_in(tmp_path, f"data_dir: {tmp_path}/data\npolicies: policies.yaml\n")

    async def edit() -> None:
        documents = SqliteDocuments.open(tmp_path / "data")
        history, seed = PolicyHistory(documents.records), read_seed(tmp_path / "policies.yaml")
        base = await history.current(seed, utc_now())
        book = PolicyBook({"default": Policy(name="default", hit_threshold=0.97)})
        change = ("put", "default", None, None)
        await history.edit(book, change, "key 1", utc_now(), base=base)
        await documents.aclose()

    def threshold() -> float:
        shown = json.loads(run("policies", "show", "--config", config, "--json").stdout)
        return float(shown["categories"][0]["hit_threshold"])

    assert threshold() == 0.9
    asyncio.run(edit())
    assert threshold() == 0.97
    (tmp_path / "policies.yaml").write_text("categories: [{name: default, hit_threshold: 0.8}]")
    assert threshold() == 0.8  # a changed file takes over at the next start


def test_a_key_may_name_a_category_that_was_added_over_the_admin_api(tmp_path: Path) -> None:
    auth = {"keys": [{"sha256": "a" * 64, "tenant": "acme", "categories": ["support"]}]}
    whole = {"data_dir": str(tmp_path / "data"), "auth": auth}
    config = config_in(tmp_path, yaml.safe_dump(whole))
    assert run("check", "--config", config).exit_code == 2

    async def add() -> None:
        documents = SqliteDocuments.open(tmp_path / "data")
        history, seed = PolicyHistory(documents.records), read_seed(None)
        base = await history.current(seed, utc_now())
        book = PolicyBook({**base.policies, "support": Policy(name="support")})
        await history.edit(book, ("put", "support", None, None), "key 1", utc_now(), base=base)
        await documents.aclose()

    asyncio.run(add())
    assert run("check", "--config", config).exit_code == 0


def test_an_empty_data_directory_says_so(tmp_path: Path) -> None:
    done = run("entries", "list", "--config", config_in(tmp_path))
    assert done.exit_code == 1
    assert "nothing is stored" in done.stderr
