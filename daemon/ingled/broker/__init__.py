"""The daemon's front process: sockets and timers around the pure core. Never imports an engine or a plugin."""
