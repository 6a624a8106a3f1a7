"""HTTP: the OpenAI and Anthropic wires, the pipeline of a request, settings and metrics."""

import os

# Before numpy is imported: the products here are too small for BLAS threads, which would spin on
# the event loop's core (p99 of a 2,000-row scan on 2 cores: 13 ms with them, 2 ms without).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
