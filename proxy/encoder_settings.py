"""Settings of what turns texts into vectors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from proxy.section import Section, http_url, seconds


class EncoderSettings(Section):
    """What turns texts into vectors."""

    checkpoint: str = Field("bundled", description="`bundled`, or a checkpoint's directory")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA when present")
    precision: Literal["default", "fp32", "int8"] = Field(
        "default", description="weights on CPU; default: what the checkpoint was measured best with"
    )
    threads: int = Field(0, ge=0, le=64, description="threads of one batch; 0 chooses by the cores")
    max_batch: int = Field(32, ge=1, le=1024, description="texts in one forward pass")
    max_waiting: int = Field(256, ge=1, description="texts that may wait; beyond it a bypass")
    max_wait: float = Field(1.0, gt=0, description="time a text may wait; beyond it a bypass")
    reencoding_share: float = Field(
        0.5, ge=0.05, le=1, description="of its time that may go into entries for a new checkpoint"
    )
    base_url: str | None = Field(
        None, description="a /v1/embeddings service (TEI, vLLM, OpenAI) to use instead"
    )
    model: str | None = Field(None, description="its model name; required with base_url")
    dimension: int | None = Field(None, ge=1, description="its dimension; unset: as it answers")
    api_key_env: str | None = Field(None, description="the variable that holds its API key")
    max_bytes: int = Field(800, ge=1, description="longest text sent to it, in bytes of UTF-8")
    timeout: float = Field(2.0, gt=0, description="time for one batch at the service")

    _time = field_validator("timeout", "max_wait", mode="before")(seconds)

    @field_validator("base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        return None if value is None else http_url(value)

    @model_validator(mode="after")
    def _complete(self) -> EncoderSettings:
        if self.base_url is not None and self.model is None:
            raise ValueError("model must be set with base_url")
        return self
