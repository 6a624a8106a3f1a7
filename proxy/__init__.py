"""HTTP: the OpenAI and Anthropic wires, the pipeline of a request, settings and metrics."""
