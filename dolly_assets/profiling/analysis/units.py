"""Numbers in words, the same wherever a profile is shown.

What is None was not measured, and says so.
"""

UNMEASURED = "not measured"


def duration(seconds: float | None) -> str:
    """Such as `41.2 s`, `3 min 05 s` or `2 h 17 min`."""
    if seconds is None:
        return UNMEASURED
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def number(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Three significant digits, thousands apart."""
    if value is None:
        return UNMEASURED
    text = (
        f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.{digits}g}"
    )
    return f"{text} {unit}".rstrip()


def share(value: float | None) -> str:
    """0 to 1 as percent."""
    return UNMEASURED if value is None else f"{100 * value:.1f} %"


def size(size_bytes: float | None) -> str:
    """GiB or MiB."""
    if size_bytes is None:
        return UNMEASURED
    return (
        f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"
    )


def energy(joules: float | None) -> str:
    """Wh or kWh."""
    if joules is None:
        return UNMEASURED
    watt_hours = joules / 3600
    return f"{watt_hours / 1000:.2f} kWh" if watt_hours >= 1000 else f"{watt_hours:.1f} Wh"


def dollars(usd: float | None) -> str:
    """US dollars."""
    return UNMEASURED if usd is None else f"${usd:,.2f}"


def grams(value: float | None) -> str:
    """g or kg."""
    if value is None:
        return UNMEASURED
    return f"{value / 1000:.2f} kg" if value >= 1000 else f"{value:.1f} g"


def flops(per_second: float | None) -> str:
    """GFLOP/s or TFLOP/s."""
    if per_second is None:
        return UNMEASURED
    return (
        f"{per_second / 1e12:,.1f} TFLOP/s"
        if per_second >= 1e12
        else f"{per_second / 1e9:,.1f} GFLOP/s"
    )
