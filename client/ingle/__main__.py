"""`python -m ingle` is the `ingle` command."""

from ingle.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
