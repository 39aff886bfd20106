"""How runs look on a terminal: a line per message and materialization, without bookkeeping."""

import logging
import sys
import time

import dagster as dg

CONSOLE = "dolly_console"


def _console(_: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger(CONSOLE, logging.DEBUG)  # the level of Dagster's materialization events
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    handler.addFilter(_is_of_interest)
    logger.addHandler(handler)
    return logger


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = record.__dict__["dagster_meta"]
        step = (meta.get("step_key") or "").replace("__", "/")
        message = meta["orig_message"]
        event = meta.get("dagster_event")
        if event is not None:
            materialization = event.event_specific_data.materialization
            step = "/".join(materialization.asset_key.path)
            message = f"published {materialization.partition or ''}".rstrip()
        return f"{time.strftime('%H:%M:%S')}  {step:<28} {message}"


def _is_of_interest(record: logging.LogRecord) -> bool:
    event = record.__dict__.get("dagster_meta", {}).get("dagster_event")
    if event is None:
        return record.levelno >= logging.INFO
    return event.event_type_value == "ASSET_MATERIALIZATION"


console_logger = dg.LoggerDefinition(
    _console,
    description="One short line per message and materialization; errors are left to the caller.",
)
