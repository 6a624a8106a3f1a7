"""Settings of the models that are asked beside the requested one: judges, and small ones."""

from __future__ import annotations

from pydantic import Field

from proxy.section import Section


class PriceSettings(Section):
    """What a model's tokens cost, in the currency of the budget; the first match counts."""

    model: str = Field(description="its name, or a pattern")
    input: float = Field(ge=0, description="a million tokens of a request")
    output: float = Field(ge=0, description="a million tokens of an answer")


class Judge(Section):
    """Audits of what the cache serves. Without it no call is made that no client asked for."""

    model: str = Field(description="the model that judges, served by one of the upstreams")
    max_cost_per_hour: float = Field(
        1.0,
        ge=0,
        description="what audits may cost in any hour, the upstream's fresh answers included",
    )
    prices: list[PriceSettings] = Field([], description="of models; see below")
    input_price: float = Field(
        5.0, ge=0, description="a million tokens of a request to a model without a price"
    )
    output_price: float = Field(
        15.0, ge=0, description="a million tokens of an answer of such a model"
    )


class Offload(Section):
    """A small model that may stand in for a large one on a near-hit; the first match counts."""

    model: str = Field(description="the requested model, or a pattern")
    small: str = Field(description="the small model, served by one of the upstreams")
    price: float = Field(0.1, ge=0, le=1, description="its price over the requested model's")
    window: int = Field(2048, ge=256, description="tokens that it can read and write in one call")
    max_examples: int = Field(5, ge=0, le=16, description="examples that it is shown at the most")
    example_tokens: int = Field(1024, ge=0, description="tokens of all examples together")
    busy: int = Field(
        16, ge=1, description="calls that the requested model bears; beyond them load counts"
    )
    small_busy: int | None = Field(
        None, ge=1, description="calls that the small model bears; what is more it is not asked"
    )
    cascade: bool = Field(
        False,
        description="send a small answer only if the model was sure of it, else ask the requested"
        " model; needs an engine that gives logprobs (llama.cpp, vLLM, SGLang, OpenAI)",
    )
