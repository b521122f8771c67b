"""A Markdown table that also reads well as plain text. Pure."""

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return the table; the first columns hold texts, so many of them, and the rest is set to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if at >= texts else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (width - 1) + ":") if at >= texts else "-" * width for at, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])
