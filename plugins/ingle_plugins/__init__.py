"""Plugins that ship with ingle."""
