"""Models: where weights are and what they need. Never imports vllm or torch."""
