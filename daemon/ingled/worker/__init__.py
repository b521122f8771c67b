"""The worker: the process that runs one resident model and serves it to the broker."""
