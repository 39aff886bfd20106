"""Serves published models by name, behind OpenAI's API.

It knows the store and loaded models; it needs neither Dagster nor the families' YAML.

- `names`: which models the store has, and which artifact a name stands for.
- `engine`: one thread per base model, which answers all its requests together, token by token.
- `weights`: a checkpoint in memory: its own weights, or a base model with adapters beside it.
- `pool`: how many models are loaded, and which is unloaded for another.
- `service`: the model that answers a name, which changes when another is promoted.
- `requests`: what a client may ask; `responses`: what it gets.
- `exchange`: one request and its answers; `answering`: those on their way to the client.
- `app`: routes and limits; `middleware`: what happens around every request.
- `guard`: the token, and who may ask without one; `rate`: how often one address may ask.
- `metrics`: what Prometheus reads.
- `server`: from the first model to the end of the last stream.
- `vllm_resolver`: finds adapters in the store for vLLM, in whose environment it runs.
- `errors`: refusals with an HTTP status.
"""
