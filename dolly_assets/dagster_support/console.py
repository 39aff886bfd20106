"""How runs look on a terminal: a line per message and materialization, without bookkeeping."""

import logging
import re
import sys
import time

import dagster as dg

CONSOLE = "dolly_console"
# What Dagster logs of each check whose asset had nothing to do; nobody has to act on it.
NOTHING_TO_CHECK = re.compile(r"Skipping step \S+ due to skipped dependencies")


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
    meta = record.__dict__.get("dagster_meta", {})
    event = meta.get("dagster_event")
    if event is None:
        is_skip = NOTHING_TO_CHECK.match(meta.get("orig_message") or "")
        return record.levelno >= logging.INFO and not is_skip
    return event.event_type_value == "ASSET_MATERIALIZATION"


console_logger = dg.LoggerDefinition(
    _console,
    description="One short line per message and materialization; errors are left to the caller.",
)
