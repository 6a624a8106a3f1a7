"""One configuration, from a file with the environment on top; a fault is one line that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.settings import ConfigInvalid, Settings, is_loopback, load_settings

FROM_THE_CONTRACT = """
server: {host: 127.0.0.1, port: 8080}
data_dir: ./nearhit-data
documents: sqlite
upstreams:
  - {name: claude, provider: anthropic, models: ["claude-*"]}
  - name: main
    base_url: "http://127.0.0.1:9000/v1/"
    api_key_env: OPENAI_API_KEY
    models: ["*"]
    fallback: []
model_groups: {gpt-4o: ["gpt-4o", "gpt-4o-2024-*"]}
passthrough: ["/v1/moderations"]
offload:
  - {model: "gpt-4o*", small: "smollm2-135m"}
judge: {model: "gpt-4o-mini", max_cost_per_hour: 1.0}
encoder: {checkpoint: bundled, device: auto}
policies: policies.yaml
auth:
  keys:
    - {sha256: "%s", tenant: acme, role: client}
    - {sha256: "%s", role: admin}
""" % ("a" * 64, "b" * 64)  # noqa: UP031


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEARHIT_CONFIG", "NEARHIT_DATA"):
        monkeypatch.delenv(name, raising=False)


def load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "nearhit.yaml"
    file.write_text(text)
    return load_settings(file)


def test_the_contracts_example_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, FROM_THE_CONTRACT)
    assert settings.upstreams[1].base_url == "http://127.0.0.1:9000/v1"
    assert settings.auth.keys[0].tenant == "acme"


def test_without_a_file_defaults_rule() -> None:
    settings = load_settings(None)
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)


def test_units_are_read(tmp_path: Path) -> None:
    settings = load(tmp_path, "server: {body_limit: 1MiB, header_timeout: 5m}\nhot_bytes: 2KiB")
    assert settings.server.body_limit == 2**20
    assert settings.server.header_timeout == 300
    assert settings.hot_bytes == 2048


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARHIT_SERVER__PORT", "8082")
    monkeypatch.setenv("NEARHIT_UPSTREAMS", '[{"name": "u", "base_url": "http://127.0.0.1:1/v1"}]')
    file = tmp_path / "nearhit.yaml"
    file.write_text("server: {port: 8081, body_limit: 5}")
    settings = load_settings(file)
    assert (settings.server.port, settings.server.body_limit) == (8082, 5)
    assert settings.upstreams[0].name == "u"
    assert load_settings(file, port=8083).server.port == 8083


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server: {port: 99999}", "server.port: 99999 is not allowed; Input should be less than"),
        ("server: {prot: 1}", "server.prot: unknown key; allowed: host, port,"),
        ("colour: red", "colour: unknown key; allowed: server, data_dir,"),
        (
            "documents: mysql://x",
            "documents: 'mysql://x' is not allowed; allowed: sqlite,",
        ),
        ("redis: {prefix: 'a b'}", "redis.prefix: 'a b' is not allowed; "),
        (
            "redis: {password_env: A, password_file: b}",
            "redis: password_env and password_file: only",
        ),
        (
            "server: {workers: 2}",
            "server.workers: 2 is not allowed with documents",
        ),
        ("upstreams: [{base_url: 'http://x/v1'}]", "upstreams.0.name: must be set"),
        ("upstreams: [{name: a}]", "upstreams.0: base_url or provider must be set"),
        ("upstreams: [{name: a, base_url: ftp://x}]", "upstreams.0.base_url: 'ftp://x' is not all"),
        (
            "upstreams: [{name: a, base_url: 'http://x:99999/v1'}]",
            "base_url: 'http://x:99999/v1' is not allowed; a URL such as http://127.0.0.1:9000/v1,",
        ),
        ("upstreams: [{name: a, base_url: 'http://x:y'}]", "base_url: 'http://x:y' is not allowed"),
        ("upstreams: [{name: a, base_url: 'http://:1'}]", "base_url: 'http://:1' is not allowed;"),
        ("upstreams: [{name: a, base_url: 'http://[::1'}]", "base_url: 'http://[::1' is not all"),
        ("encoder: {base_url: 'x:80', model: m}", "encoder.base_url: 'x:80' is not allowed; a URL"),
        ("tracing: {endpoint: 'http://x:99999'}", "endpoint: 'http://x:99999' is not allowed; a U"),
        ("upstreams: [{name: a, base_url: 'http://x', models: []}]", "upstreams.0.models: [] is"),
        (
            "upstreams: [{name: a, base_url: 'http://x', fallback: [b]}]",
            "upstreams.0.fallback: 'b' is not allowed; allowed: none",
        ),
        (
            "upstreams: [{name: a, provider: p, models: [x], fallback: [b]},"
            " {name: b, provider: p, fallback: [c, a]}, {name: c, provider: p, models: [y]}]",
            "upstreams.1.fallback: 'a' is not allowed, it leads back here; allowed: c",
        ),
        ("flight: {patience: -1s}", "flight.patience: '-1s' is not allowed; a duration such as"),
        ("encoder: {base_url: 'http://x'}", "encoder: model must be set with base_url"),
        ("server: {host: 0.0.0.0}", "server.host: 0.0.0.0 is not loopback and auth.keys is empty"),
        ("judge: {max_cost_per_hour: 1}", "judge.model: must be set"),
        ("judge: {model: x, max_cost_per_hour: -1}", "judge.max_cost_per_hour: -1 is not allowed"),
        (
            "judge: {model: x, prices: [{model: x, input: 1, output: 2, extra: 3}]}",
            "judge.prices.0.extra: unknown key; allowed: model, input, output",
        ),
        (
            "upstreams: [{name: a, provider: p, models: ['gull-*']}]\njudge: {model: tern}",
            "judge.model: 'tern' is served by no upstream; allowed: gull-*",
        ),
        ("passthrough: ['']", "passthrough.0: '' is not allowed; a path below /v1/, as /v1/mod"),
        ("passthrough: [/v1/files, /]", "passthrough.1: '/' is not allowed; a path below /v1/"),
        ("passthrough: [moderations]", "passthrough.0: 'moderations' is not allowed; a path"),
        ("passthrough: [/moderations]", "passthrough.0: '/moderations' is not allowed; a path"),
        ("passthrough: [/v1/]", "passthrough.0: '/v1/' is not allowed; a path below /v1/"),
        ("passthrough: [/v1/../files]", "passthrough.0: '/v1/../files' is not allowed; a path"),
        ("passthrough: ['/v1/files?a=1']", "passthrough.0: '/v1/files?a=1' is not allowed; a"),
        ("data_dir: ''", "data_dir: '' is not allowed; a path"),
        ("policies: ''", "policies: '' is not allowed; a path"),
        ("- a list", "must be a mapping of sections"),
        ("a: [", "is not YAML"),
        (f"feedback: {{max_pairs: {2**63}}}", f"max_pairs: {2**63} is not allowed; a whole number"),
        (f"hot_bytes: {2**63}", "hot_bytes: 9223372036854775808 is not allowed; a size of 0 or"),
    ],
)
def test_a_fault_names_the_file_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, text: str, line: str
) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load(tmp_path, text)
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith(f"{tmp_path / 'nearhit.yaml'}: ")
    assert line in refused.value.faults[0]
    assert "\n" not in refused.value.faults[0]


def test_a_key_pasted_where_its_digest_belongs_is_not_printed(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load(tmp_path, "auth: {keys: [{sha256: sk-very-secret}]}")
    assert "sk-very-secret" not in str(refused.value)


def test_names_and_digests_must_be_unique(tmp_path: Path) -> None:
    upstream = "{name: a, base_url: 'http://x'}"
    with pytest.raises(ConfigInvalid, match="every name must be unique"):
        load(tmp_path, f"upstreams: [{upstream}, {upstream}]")
    with pytest.raises(ConfigInvalid, match="every sha256 must be unique"):
        key = f"{{sha256: {'a' * 64}}}"
        load(tmp_path, f"auth: {{keys: [{key}, {key.upper().replace('SHA', 'sha')}]}}")


def test_every_wrong_fallback_has_a_line_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        load(tmp_path, "upstreams: [{name: a, provider: p, fallback: [x, y, a]}]")
    file = tmp_path / "nearhit.yaml"
    assert refused.value.faults == [
        f"{file}: upstreams.0.fallback: 'x' is not allowed; allowed: none",
        f"{file}: upstreams.0.fallback: 'y' is not allowed; allowed: none",
        f"{file}: upstreams.0.fallback: 'a' is not allowed, it leads back here; allowed: none",
    ]


def test_fallbacks_and_trusted_keys_are_read(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "upstreams: [{name: a, provider: p, fallback: [b]}, {name: b, provider: p, models: [x]}]\n"
        f"auth: {{keys: [{{sha256: {'a' * 64}, may_set_user: true}}, {{sha256: {'b' * 64}}}]}}",
    )
    assert [upstream.fallback for upstream in settings.upstreams] == [["b"], []]
    assert [key.may_set_user for key in settings.auth.keys] == [True, False]


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIT_SERVR__PORT", "1")
    with pytest.raises(ConfigInvalid, match="NEARHIT_SERVR__PORT: unknown setting"):
        load_settings(None)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("NEARHIT_SERVER__PORT", "80x", "environment: server.port: '80x' is not allowed; "),
        ("nearhit_server__port", "80x", "environment: server.port: '80x' is not allowed; "),
        ("NEARHIT_SERVER__PROT", "1", "environment: server.prot: unknown key; allowed: host, "),
        ("NEARHIT_SERVER", '{"port": -1}', "environment: server.port: -1 is not allowed; "),
        ("NEARHIT_SERVER__HOST", "0.0.0.0", "environment: server.host: 0.0.0.0 is not loopback"),
        ("NEARHIT_UPSTREAMS", '[{"name": "a"}]', "environment: upstreams.0: base_url or provider"),
        ("NEARHIT_UPSTREAMS", "[oops", 'environment: the value of "upstreams" is not JSON (Exp'),
        ("NEARHIT_SERVER__WORKERS", "1", "FILE: hot_bytes: 'x' is not allowed; "),
    ],
)
def test_a_fault_of_the_environment_is_not_the_files(
    variable: str, value: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigInvalid) as refused:
        load(tmp_path, "hot_bytes: x" if line.startswith("FILE") else "server: {body_limit: 5}")
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith(line.replace("FILE", str(tmp_path / "nearhit.yaml")))


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ({"port": -1}, "command line: server.port: -1 is not allowed; "),
        ({"host": "0.0.0.0"}, "command line: server.host: 0.0.0.0 is not loopback and auth.keys "),
    ],
)
def test_a_fault_of_the_command_line_is_not_the_files(
    argument: dict[str, Any], line: str, tmp_path: Path
) -> None:
    file = tmp_path / "nearhit.yaml"
    file.write_text("server: {port: 8081}")
    with pytest.raises(ConfigInvalid) as refused:
        load_settings(file, **argument)
    assert [fault[: len(line)] for fault in refused.value.faults] == [line]


def test_a_variable_that_is_not_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARHIT_UPSTREAMS", "[oops")
    with pytest.raises(ConfigInvalid, match='environment: .*"upstreams"'):
        load_settings(None)


def test_keys_or_a_word_from_the_operator_open_other_addresses(tmp_path: Path) -> None:
    load(tmp_path, "server: {host: 0.0.0.0}\nauth: {allow_anonymous: true}")
    load(tmp_path, f"server: {{host: 0.0.0.0}}\nauth: {{keys: [{{sha256: {'a' * 64}}}]}}")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
