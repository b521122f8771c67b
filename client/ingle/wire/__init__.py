"""The wire: bytes to values and back, without I/O (docs/protocol.md is the authority)."""
