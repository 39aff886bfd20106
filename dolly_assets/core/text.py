"""Numbers, times and errors in words: one formatter each, for all pages, tables and messages.

Apart from `with_interval`, it formats values that were measured; what to write for a value that is
missing is the caller's to decide.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

MOST_PROBLEMS = 3


def file_size(size_bytes: float) -> str:
    """Format the size of a file or a transfer, in decimal units: `512 B`, `1.5 kB`, `20 MB`."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB"))


def memory_size(size_bytes: float) -> str:
    """Format an amount of memory, in binary units: `35 MiB`, `71.2 GiB`, `80 GiB`."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(seconds: float) -> str:
    """Format a duration: `250 ms`, `41.2 s`, `3 min 05 s`, `30 min`, `2 h 17 min`."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{_one_decimal(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02} min" if minutes else f"{hours:,} h"


def percent(share: float, digits: int = 0) -> str:
    """Format a share, where 1 is the whole, as a percentage: `91 %`, `under 1 %`.

    Args:
        share: The share. A positive one that would round to zero is written as `under 1 %`.
        digits: How many decimals to show.
    """
    smallest = 10.0**-digits
    if 0 < 100 * share < smallest / 2:
        return f"under {smallest:.{digits}f} %"
    return f"{100 * share:.{digits}f} %"


def with_interval(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    """Format a value with its interval: `0.289 (0.200 to 0.400)`; `–` if nothing was measured.

    Args:
        value: The value.
        interval: Its lower and its upper bound, if it has any.
        form: How each number is written, such as `.3f`.
    """
    if value is None:
        return "–"
    bounds = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{value:{form}}{bounds}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with its noun: `1 epoch`, `1,200 rows`.

    Args:
        number: How many.
        noun: The noun in the singular.
        plural: The noun in the plural, where it is not the singular with an `s`.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def dollars(usd: float) -> str:
    """Format an amount of US dollars: `$1,234.50`."""
    return f"${usd:,.2f}"


def energy(joules: float) -> str:
    """Format an amount of energy: `249.6 Wh`, `4.1 kWh`."""
    watt_hours = joules / 3600
    return f"{watt_hours / 1000:,.1f} kWh" if watt_hours >= 1000 else f"{watt_hours:.1f} Wh"


def clock_time(moment: float) -> str:
    """Format seconds since the epoch as the time of day in UTC: `14:03:59`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")


def date_and_time(moment: float) -> str:
    """Format seconds since the epoch as date and time in UTC: `2026-11-30 14:03:59`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def one_line(error: BaseException, limit: int | None = None) -> str:
    """Format an error's message on one line; of a validation error, the keys and their problems.

    Args:
        error: The error.
        limit: The number of characters after which the line is cut off with an ellipsis.
    """
    text = _problems(error) if isinstance(error, ValidationError) else str(error)
    return flat(encodable(text), limit)


def flat(text: str, limit: int | None = None) -> str:
    """Return a text on one line.

    Args:
        text: The text.
        limit: The number of characters after which the line is cut off with an ellipsis.
    """
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]}…"


def encodable(text: str) -> str:
    """Return a text that every file, log and page can hold: lone surrogates are written out."""
    return text.encode(errors="backslashreplace").decode()


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    texts: list[str] = []
    for problem in problems[:MOST_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        texts.append(f"{where}: {text}" if where else text)
    if len(problems) > MOST_PROBLEMS:
        texts.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return "; ".join(texts)


def _scaled(amount: float, step: int, units: tuple[str, ...]) -> str:
    """Format an amount in the largest unit of which it has at least one."""
    for unit in units[:-1]:
        if round(amount, 1) < step:
            return f"{_one_decimal(amount)} {unit}"
        amount /= step
    return f"{_one_decimal(amount)} {units[-1]}"


def _one_decimal(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
