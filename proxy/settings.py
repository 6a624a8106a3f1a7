"""Configuration: one frozen object, read once from YAML with the environment on top.

Every key of the file may be overridden as NEARHIT_SECTION__KEY (lists and mappings as JSON).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from proxy.config_faults import Origins, lines, not_json
from proxy.dashboard_settings import DashboardSettings
from proxy.encoder_settings import EncoderSettings
from proxy.fleet import fallback_faults
from proxy.model_settings import Judge, Offload, PriceSettings
from proxy.observing_settings import LoggingSettings, TracingSettings
from proxy.paths import PathRefused, normalise
from proxy.section import Section, http_url, seconds
from proxy.store_settings import CheckpointSettings, RedisSettings, Replication, Snapshots
from proxy.usage_settings import UsageSettings
from store.units import parse_size
from store.yaml_text import read_yaml

ENV_PREFIX = "NEARHIT_"
# Read elsewhere than in the settings themselves.
OTHER_VARIABLES = frozenset({"NEARHIT_CONFIG", "NEARHIT_DATA", "NEARHIT_ADMIN_KEY"})


class ConfigInvalid(Exception):
    """A configuration is refused; one line per fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Server(Section):
    """Where and how we listen."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(8080, ge=0, le=65535, description="port to bind; 0 picks a free one")
    workers: int = Field(
        1, ge=1, le=64, description="processes; more than one needs `documents: redis://...`"
    )
    body_limit: int = Field(8 * 2**20, description="largest request body, as 8MiB; beyond it 413")
    header_timeout: float = Field(10.0, gt=0, description="time for a request's headers to arrive")
    body_timeout: float = Field(30.0, gt=0, description="longest pause within a request's body")
    shutdown_timeout: float = Field(30.0, ge=0, description="time that running requests get to end")

    _size = field_validator("body_limit", mode="before")(parse_size)
    _time = field_validator("header_timeout", "body_timeout", "shutdown_timeout", mode="before")(
        seconds
    )


class Upstream(Section):
    """One API that we forward to. Entries with the same `models` list are replicas."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="its name in logs and metrics")
    base_url: str | None = Field(None, description="as http://127.0.0.1:9000/v1; for OpenAI's wire")
    provider: str | None = Field(None, description="a litellm provider, for any other wire")
    api_key_env: str | None = Field(None, description="the variable that holds its API key")
    models: Annotated[list[str], Field(min_length=1)] = Field(
        ["*"], description="model names or patterns; the most specific wins"
    )
    fallback: list[str] = Field(
        [], description="names of upstreams that are asked in order when this one cannot answer"
    )
    connect_timeout: float = Field(5.0, gt=0, description="time to connect")
    first_byte_timeout: float = Field(
        300.0, gt=0, description="time to the answer's head, and again from there to its first byte"
    )
    idle_timeout: float = Field(60.0, gt=0, description="longest pause between two chunks")
    max_retries: int = Field(2, ge=0, le=10, description="further tries before the first byte")
    prediction: bool = Field(
        False, description="pass a near-hit's stored answer along as a predicted output"
    )

    _time = field_validator("connect_timeout", "first_byte_timeout", "idle_timeout", mode="before")(
        seconds
    )

    @field_validator("base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        return None if value is None else http_url(value)

    @model_validator(mode="after")
    def _reachable(self) -> Upstream:
        if self.base_url is None and self.provider is None:
            raise ValueError("base_url or provider must be set")
        return self


class Flight(Section):
    """Concurrent identical misses share one upstream call."""

    patience: float | None = Field(
        None,
        gt=0,
        description="silence after which a follower asks the upstream itself;"
        " unset: twice the upstream's p95 first-byte time, at least 2s",
    )
    max_buffer: int = Field(8 * 2**20, description="largest answer that can be shared or stored")

    _size = field_validator("max_buffer", mode="before")(parse_size)
    _time = field_validator("patience", mode="before")(
        lambda value: None if value is None else seconds(value)
    )


class FeedbackSettings(Section):
    """Clients' verdicts on answers."""

    per_minute: int = Field(60, ge=1, description="verdicts that one key may send a minute")
    max_pairs: int = Field(
        100_000, ge=1, description="labelled pairs that are kept; the oldest leave first"
    )


class Key(Section):
    """One API key, by its digest."""

    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$", description="hex SHA-256 of the key")
    tenant: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="whose key it is")
    role: Literal["client", "admin", "viewer"] = Field("client", description="what it may do")
    categories: list[str] | None = Field(None, description="what X-Nearhit-Category may name")
    upstream_key_env: str | None = Field(None, description="the variable with the tenant's own key")
    may_set_user: bool = Field(False, description="its X-Nearhit-User names the end user")


def _below_v1(path: str) -> str:
    try:
        plain = normalise(path.encode("utf-8", "surrogatepass")) == path
    except PathRefused:
        plain = False
    if not (plain and path.startswith("/v1/") and path != "/v1/"):
        raise ValueError("a path below /v1/, as /v1/moderations")
    return path


def _no_empty_path(value: object) -> object:
    if value == "":  # which would be the working directory
        raise ValueError("a path; leave the key out for the default")
    return value


PathPrefix = Annotated[str, AfterValidator(_below_v1)]


class Auth(Section):
    """Who may call."""

    keys: list[Key] = Field([], description="API keys; none: every caller is its own tenant")
    allow_anonymous: bool = Field(False, description="serve beyond loopback without any key")


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    server: Server = Server()
    data_dir: Path = Field(Path("./nearhit-data"), description="SQLite file, lock, checkpoints")
    documents: str = Field(
        "sqlite",
        description="where entries live: sqlite, or redis://host:6379/0 (rediss://, unix://)",
    )
    redis: RedisSettings = RedisSettings()
    replication: Replication = Replication()
    snapshots: Snapshots = Snapshots()
    hot_bytes: int = Field(64 * 2**20, description="answers kept in memory beside their documents")
    upstreams: list[Upstream] = Field([], description="the APIs that we forward to")
    model_groups: dict[str, list[str]] = Field(
        {}, description="models whose answers may stand in for each other"
    )
    passthrough: list[PathPrefix] = Field(
        [], description="uncached paths below /v1/ that every tenant may use, and all below them"
    )
    offload: list[Offload] = Field([], description="small models for near-hits; none: no offload")
    judge: Judge | None = Field(None, description="who audits hits; unset: nobody")
    encoder: EncoderSettings = EncoderSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    flight: Flight = Flight()
    lookup_gate: bool = Field(
        True, description="skip lookups by meaning where they cost more time than they save"
    )
    feedback: FeedbackSettings = FeedbackSettings()
    policies: Path | None = Field(None, description="categories; unset: the starter policies")
    auth: Auth = Auth()
    dashboard: DashboardSettings = DashboardSettings()
    usage: UsageSettings = UsageSettings()
    tracing: TracingSettings = TracingSettings()
    logging: LoggingSettings = LoggingSettings()

    _size = field_validator("hot_bytes", mode="before")(parse_size)
    _path = field_validator("data_dir", "policies", mode="before")(_no_empty_path)

    @field_validator("documents")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if not re.fullmatch(r"sqlite|(rediss?|unix)://\S+", value):
            raise ValueError("allowed: sqlite, redis://host:6379/0, rediss://..., unix://path")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.server.workers > 1 and self.documents == "sqlite":
            raise ValueError(
                f"server.workers: {self.server.workers} is not allowed with documents: sqlite;"
                " allowed: 1, or documents: redis://host:6379/0"
            )
        names = [upstream.name for upstream in self.upstreams]
        if len(set(names)) < len(names):
            raise ValueError("upstreams: every name must be unique")
        if faults := list(fallback_faults(self.upstreams)):
            raise ValueError("\n".join(faults))
        if self.judge is not None:
            self._served("judge.model", self.judge.model)
        for number, pairing in enumerate(self.offload):
            self._served(f"offload.{number}.small", pairing.small)
        digests = [key.sha256.lower() for key in self.auth.keys]
        if len(set(digests)) < len(digests):
            raise ValueError("auth.keys: every sha256 must be unique")
        if not (self.auth.keys or self.auth.allow_anonymous or is_loopback(self.server.host)):
            raise ValueError(
                f"server.host: {self.server.host} is not loopback and auth.keys is empty;"
                " configure keys, or set auth.allow_anonymous: true"
            )
        return self

    def _served(self, key: str, model: str) -> None:
        """Raise ValueError unless an upstream, if any is configured, serves the model."""
        patterns = [model for upstream in self.upstreams for model in upstream.models]
        if patterns and not any(fnmatch.fnmatchcase(model, pattern) for pattern in patterns):
            raise ValueError(
                f"{key}: {model!r} is served by no upstream; allowed: {', '.join(patterns)}"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


# Where each section stands in the file.
SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Settings,
    ("server",): Server,
    ("upstreams",): Upstream,
    ("offload",): Offload,
    ("judge",): Judge,
    ("judge", "prices"): PriceSettings,
    ("encoder",): EncoderSettings,
    ("checkpoints",): CheckpointSettings,
    ("flight",): Flight,
    ("feedback",): FeedbackSettings,
    ("redis",): RedisSettings,
    ("replication",): Replication,
    ("snapshots",): Snapshots,
    ("auth",): Auth,
    ("auth", "keys"): Key,
    ("dashboard",): DashboardSettings,
    ("usage",): UsageSettings,
    ("usage", "prices"): PriceSettings,
    ("tracing",): TracingSettings,
    ("logging",): LoggingSettings,
}


def load_settings(
    file: Path | None, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Settings:
    """Read the file (None: defaults) with the environment on top; raise ConfigInvalid.

    `overrides` are command-line values for `server`, and win over both.
    """
    environ = os.environ if environ is None else environ
    raw: object = {}
    if file is not None:
        try:
            raw = read_yaml(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid([f"{file}: cannot be read: {error}"]) from None
        except ValueError as error:
            raise ConfigInvalid([f"{file}: {error}"]) from None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise ConfigInvalid([f"{file}: must be a mapping of sections"])
    faults = [
        f"environment: {variable}: unknown setting"
        for variable in environ
        if variable.startswith(ENV_PREFIX)
        and variable not in OTHER_VARIABLES
        and variable.removeprefix(ENV_PREFIX).split("__")[0].lower() not in Settings.model_fields
    ]
    if faults:
        raise ConfigInvalid(faults)
    try:
        arguments: dict[str, Any] = {"server": overrides} if overrides else {}
        return _with_file(raw)(**arguments)
    except ValidationError as error:
        origins = Origins(
            file=None if file is None else str(file),
            prefix=ENV_PREFIX,
            variables=frozenset(variable.upper() for variable in environ),
            arguments=frozenset(overrides),
        )
        raise ConfigInvalid(lines(error, origins, SECTIONS)) from None
    except ValueError as error:  # a list or mapping in the environment that is not JSON
        raise ConfigInvalid([not_json(error)]) from None


def upstream_of_openai(environ: Mapping[str, str]) -> Upstream | None:
    """Return what serves where no upstream is configured: what OpenAI's own SDK would ask.

    None where neither OPENAI_BASE_URL nor OPENAI_API_KEY is set. Raises ConfigInvalid.
    """
    base_url = environ.get("OPENAI_BASE_URL")
    key = "OPENAI_API_KEY" if environ.get("OPENAI_API_KEY") else None
    if not base_url and key is None:
        return None
    try:
        base_url = http_url(base_url or "https://api.openai.com/v1")
    except ValueError as fault:
        told = f"environment: OPENAI_BASE_URL: {base_url!r} is not allowed; {fault}"
        raise ConfigInvalid([told]) from None
    return Upstream(name="openai", base_url=base_url, api_key_env=key)


def settings_from(told: str) -> Settings:
    """Return the settings that another process had, from its `model_dump_json`."""
    whole = json.loads(told)  # the environment is in it already

    def only_told(
        init: PydanticBaseSettingsSource, env: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init,)

    return _from(only_told)(**whole)


def _with_file(raw: dict[str, Any]) -> type[Settings]:
    """Return settings in which the command line wins over the environment, and that over a file."""

    def in_order(
        init: PydanticBaseSettingsSource, env: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init, env, InitSettingsSource(Settings, init_kwargs=raw)

    return _from(in_order)


def _from(
    sources: Callable[
        [PydanticBaseSettingsSource, PydanticBaseSettingsSource],
        tuple[PydanticBaseSettingsSource, ...],
    ],
) -> type[Settings]:
    """Return settings that are read from these sources, given the arguments and the environment."""

    class Read(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """The first source that has a key wins."""
            return sources(init_settings, env_settings)

    return Read
