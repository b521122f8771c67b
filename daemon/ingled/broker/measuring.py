"""Metrics on, off, or elsewhere: at the start, and when the configuration says so."""

from pathlib import Path
from typing import TYPE_CHECKING

from ingled.broker.listen import CannotListen
from ingled.broker.scrape import Scrape

if TYPE_CHECKING:
    from ingled.broker.shell import Shell


def prepare(where: Path | tuple[str, int] | None) -> Scrape | None:
    """Return what will serve metrics there, with its socket. Raises CannotListen."""
    if where is None:
        return None
    try:
        import ingled.broker.metrics  # noqa: F401  # which needs a package of its own
    except ImportError as error:
        raise CannotListen(f"metrics need the package prometheus-client ({error}); or remove daemon.metrics") from error
    return Scrape(where)


async def measure(shell: "Shell", scrape: Scrape | None) -> None:
    """Serve metrics here from now on, or nowhere; what has been counted so far counts on."""
    before, shell.scrape = shell.scrape, scrape
    if before is not None:
        before.close()
    if scrape is None:
        return
    from ingled.broker.metrics import CONTENT_TYPE, Metrics

    shell.metrics = shell.metrics or Metrics(shell)
    await scrape.serve(shell.metrics.text, CONTENT_TYPE)
