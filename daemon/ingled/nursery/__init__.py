"""The nursery: the process that has imported vLLM once and forks a worker for each model."""
