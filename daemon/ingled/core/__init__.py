"""The control state of the daemon, pure: events in, effects out. No clock, no socket, no log."""
