"""Settings of what is stored, and of those who share it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from proxy.section import Section, seconds


class RedisSettings(Section):
    """How to reach the Redis that `documents` names, and what to expect of it."""

    username: str = Field("", description="of its ACL; unset: the default user, or the URL's")
    password_env: str | None = Field(None, description="the variable that holds the password")
    password_file: Path | None = Field(None, description="the file that holds the password")
    ca_certs: Path | None = Field(None, description="with rediss://: who may sign its certificate")
    prefix: str = Field(
        "nearhit", pattern=r"^[A-Za-z0-9_.:-]{1,64}$", description="how every key begins"
    )
    request_timeout: float = Field(
        0.05, gt=0, description="time for a call that a client waits for; beyond it a miss"
    )
    write_timeout: float = Field(2.0, gt=0, description="time for any other call")
    expire_after: float = Field(
        30 * 86400.0, gt=0, description="when Redis itself forgets an entry, whatever its policy"
    )

    _time = field_validator("request_timeout", "write_timeout", "expire_after", mode="before")(
        seconds
    )

    @model_validator(mode="after")
    def _one_password(self) -> RedisSettings:
        if self.password_env is not None and self.password_file is not None:
            raise ValueError("password_env and password_file: only one may be set")
        return self


class Replication(Section):
    """Replicas of one Redis."""

    max_staleness: float = Field(
        2.0,
        ge=0.1,
        le=60,
        description="how long a replica may serve without knowing where the journal ends;"
        " a purge waits so long for whoever is out of reach",
    )

    _time = field_validator("max_staleness", mode="before")(seconds)


class Snapshots(Section):
    """Copies of memory on this process's own disk, which make a restart short."""

    every: float = Field(
        600.0, ge=0, description="time between two, if anything has changed; 0: only at the end"
    )

    _time = field_validator("every", mode="before")(seconds)


class CheckpointSettings(Section):
    """What a checkpoint of the encoder has to reach to be promoted."""

    directory: Path | None = Field(
        None, description="where they are kept; replicas share it. Unset: in `data_dir`"
    )
    margin: float = Field(
        0.05, ge=0, le=1, description="the most F0.5 that it may lose in a category"
    )
    min_pairs: int = Field(
        50, ge=10, description="held-out pairs to judge it by, a fifth of them of either label"
    )
