"""The ingled daemon."""
