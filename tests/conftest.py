"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says nothing where other tests run beside it.
settings.register_profile("nearhit", deadline=None)
settings.load_profile("nearhit")
