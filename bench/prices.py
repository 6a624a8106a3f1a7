"""Write the price list that is shipped, from the one in the installed litellm package (MIT).

    python -m bench.prices [--out proxy/usage/prices.json]

Chat models with a price for input and for output, under the names that an OpenAI-compatible client
sends: names without a provider, then those of the providers below without their prefix. A million
tokens in US dollars; discounts for cached input, batches and long contexts are not in it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OUT = Path("proxy/usage/prices.json")
LIST = "model_prices_and_context_window_backup.json"
DIRECT = ("gemini", "mistral", "deepseek", "xai", "moonshot", "cohere", "groq", "perplexity")
_OTHER_HOSTS = ("bedrock", "bedrock_converse")  # whose names no other client sends


def price_list(models: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return [input, output] by name, in dollars a million tokens."""
    found: dict[str, list[float]] = {}
    for prefix in ("", *DIRECT):
        for name, model in models.items():
            provider, slash, rest = name.rpartition("/")
            if provider != prefix or model.get("litellm_provider") in _OTHER_HOSTS:
                continue
            pair = [model.get(f"{way}_cost_per_token") for way in ("input", "output")]
            known = [float(f"{1e6 * each:.6g}") for each in pair if isinstance(each, float | int)]
            if model.get("mode") == "chat" and len(known) == 2 and any(known):
                found.setdefault(rest, known)
    return dict(sorted(found.items()))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    wanted = parser.parse_args()
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SystemExit("litellm is not installed")
    models = json.loads((Path(spec.origin).parent / LIST).read_text())
    prices = price_list(models)
    head = {
        "source": f"litellm {version('litellm')}, MIT, (c) Berri AI",
        "made": datetime.now(UTC).date().isoformat(),
        "unit": "US dollars a million tokens: [input, output]",
    }
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(pair)}" for name, pair in prices.items())
    opened = json.dumps(head, indent=0).removesuffix("\n}")
    wanted.out.write_text(f'{opened},\n"prices": {{\n{lines}\n}}}}\n')
    print(f"{len(prices)} models, {wanted.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
