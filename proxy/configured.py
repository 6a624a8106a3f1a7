"""Settings as the values that parts are built from; secrets come from the environment here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.auth import ApiKey, Role
from proxy.key_variables import key_in
from proxy.model_settings import Judge, PriceSettings
from proxy.settings import Settings
from proxy.spending import Price, Spending
from proxy.upstream import UpstreamSpec


def api_keys(settings: Settings, environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Return the configured API keys."""
    return tuple(
        ApiKey(
            sha256=key.sha256,
            tenant=key.tenant,
            role=Role(key.role),
            categories=None if key.categories is None else frozenset(key.categories),
            upstream_key=key_in(environ, key.upstream_key_env),
            may_set_user=key.may_set_user,
        )
        for key in settings.auth.keys
    )


def spending(judge: Judge) -> Spending:
    """Return the judge's account."""
    other = Price("*", judge.input_price, judge.output_price)
    return Spending(prices_of(judge.prices), other, judge.max_cost_per_hour)


def prices_of(configured: Sequence[PriceSettings]) -> list[Price]:
    """Return configured prices."""
    return [Price(each.model, each.input, each.output) for each in configured]


def upstream_specs(settings: Settings, environ: Mapping[str, str]) -> list[UpstreamSpec]:
    """Return the configured upstreams."""
    return [
        UpstreamSpec(
            name=upstream.name,
            models=tuple(upstream.models),
            fallback=tuple(upstream.fallback),
            base_url=upstream.base_url,
            provider=upstream.provider,
            api_key=key_in(environ, upstream.api_key_env),
            connect_timeout=upstream.connect_timeout,
            first_byte_timeout=upstream.first_byte_timeout,
            idle_timeout=upstream.idle_timeout,
            max_retries=upstream.max_retries,
            predicts=upstream.prediction,
        )
        for upstream in settings.upstreams
    ]
