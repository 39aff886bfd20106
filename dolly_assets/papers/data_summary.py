"""The public summary of training content, in the sections of the European Commission's template.

Knows the template's questions, and answers only what the store records: where data comes from is
recorded, who the provider is and what reservations of rights were respected is not. A model that is
fine-tuned here has further data behind its base model, whose provider summarizes it.
"""

from collections.abc import Iterator

from dolly_assets.core.markdown import inline
from dolly_assets.datasets.sources import DEMO, HUB_ID
from dolly_assets.papers.model_card import base_name
from dolly_assets.papers.record import ModelRecord
from dolly_assets.papers.wording import NOT_RECORDED, source_name, value

TEMPLATE = (
    "Communication from the Commission C(2025) 8311 of 5 December 2025, Explanatory Notice and "
    "Template for the Public Summary of Training Content for general-purpose AI models "
    "required by Article 53(1)(d) of Regulation (EU) 2024/1689"
)
TEMPLATE_URL = (
    "https://digital-strategy.ec.europa.eu/en/library/"
    "explanatory-notice-and-template-public-summary-training-content-general-purpose-ai-models"
)
_SIZES = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))
_LARGEST = "more than 10 trillion tokens"
_PUBLIC, _OTHER = "2.1", "2.6"


def data_summary(record: ModelRecord) -> str:
    """Return the summary as Markdown."""
    made = record.model.manifest.created_at
    lines = [
        "# Public summary of training content",
        "",
        f"Sections of the template: {TEMPLATE} (<{TEMPLATE_URL}>).",
        "",
        f"- Version of the summary: {record.model.digest[:12]}",
        f"- Last update: {made:%Y-%m-%d}",
        "",
        *_general(record),
        *_sources(record),
        *_processing(record),
        "",
    ]
    return "\n".join(lines)


def _general(record: ModelRecord) -> Iterator[str]:
    data, tokenized = record.data, record.tokenized
    yield from _section("1. General information", level=2)
    yield from _section(
        "1.1. Provider identification",
        f"Provider name and contact details: {NOT_RECORDED}",
        f"Authorised representative name and contact details: {NOT_RECORDED}",
    )
    yield from _section(
        "1.2. Model identification",
        f"Versioned model name(s): {inline(record.title)}, digest {record.model.digest}",
        f"Model dependencies: {_dependencies(record)}",
        f"Date of placement of the model on the Union market: {NOT_RECORDED}",
    )
    read = record.raw_dataset
    yield from _section(
        "1.3. Modalities, overall training data size and other characteristics",
        "Modality: text",
        f"Training data size: {_size(tokenized and tokenized.train_tokens)}",
        f"Types of content: {_content(record)}",
        "Latest date of data acquisition: "
        + (f"read on {read.manifest.created_at:%Y-%m-%d}" if read else NOT_RECORDED),
        f"Linguistic characteristics of the overall training data: {NOT_RECORDED}",
        f"Other relevant characteristics: records {value(data and data.rows)}, examples trained "
        f"on {value(tokenized and tokenized.train_examples)}, examples held out "
        f"{value(tokenized and tokenized.held_out_examples)}",
        f"Additional comments: {_comments(record)}",
    )


def _dependencies(record: ModelRecord) -> str:
    base = record.base_model
    if base is not None and base.source == "untrained":
        if record.is_adapter:
            return "none: its base model is untrained"
        return "none: it was trained from scratch"
    return f"{base_name(record)}; see the summary that its provider publishes"


def _comments(record: ModelRecord) -> str:
    if record.base_model and record.base_model.source == "untrained":
        return "none"
    return "this summary covers the data of the fine-tuning alone, not that of the base model"


def _size(tokens: int | None) -> str:
    if tokens is None:
        return NOT_RECORDED
    named = next((size for limit, size in _SIZES if tokens < limit), _LARGEST)
    return f"{named} ({tokens:,} tokens per epoch)"


def _content(record: ModelRecord) -> str:
    if record.data is None:
        return NOT_RECORDED
    shapes = {
        "exchanges": "instructions with answers",
        "conversations": "conversations",
        "preferences": "pairs of answers, one of them preferred",
    }
    return shapes[record.data.form]


def _sources(record: ModelRecord) -> Iterator[str]:
    section, description = _source(record)
    yield from _section("2. List of data sources", level=2)
    yield from _section(
        "2.1. Publicly available datasets",
        f"Publicly available datasets were used: {_is(_PUBLIC, section)}",
        *([f"List of the datasets: {description}"] if section == _PUBLIC else []),
    )
    yield from _section("2.2. Private non-publicly available datasets obtained from third parties")
    yield from _section(
        "2.2.1. Datasets commercially licensed by rightsholders or their representatives",
        f"Commercial licensing agreements were concluded: {_is('2.2.1', section)}",
        level=4,
    )
    yield from _section(
        "2.2.2. Private datasets obtained from other third parties",
        f"Private datasets were obtained from other third parties: {_is('2.2.2', section)}",
        level=4,
    )
    yield from _section(
        "2.3. Data crawled and scraped from online sources",
        f"Crawlers were used by the provider or on its behalf: {_is('2.3', section)}",
    )
    yield from _section(
        "2.4. User data",
        f"Data from user interactions with the model was used: {_is('2.4', section)}",
        "Data from user interactions with other services or products was used: "
        + _is("2.4", section),
    )
    yield from _section(
        "2.5. Synthetic data",
        f"Data that the provider generated with AI models was used: {_is('2.5', section)}",
    )
    yield from _section(
        "2.6. Other sources of data",
        f"Other sources were used: {_is(_OTHER, section)}",
        *([f"Description: {description}"] if section == _OTHER else []),
    )
    if not section:
        yield from [f"What is recorded of the source: {description}.", ""]


def _is(asked: str, section: str) -> str:
    """Return whether the data is of a section; not recorded where its origin is not."""
    if not section:
        return NOT_RECORDED
    return "yes" if asked == section else "no"


def _source(record: ModelRecord) -> tuple[str, str]:
    """Return the section that the data belongs to, empty if that is not recorded, and its source.

    A file that a user brings may come from anywhere: where from, no manifest states.
    """
    data = record.data
    if data is None:
        return "", NOT_RECORDED
    stated = f"licence {inline(data.license)}, revision {value(data.revision)}"
    if data.source == DEMO:
        return _OTHER, f"generated by a program without AI models ({DEMO}), {stated}"
    if data.format == "hub" and (match := HUB_ID.fullmatch(data.source or "")):
        name = match["name"]
        return _PUBLIC, f"{name}, <https://huggingface.co/datasets/{name}>, {stated}"
    return "", f"{value(source_name(data.source))}, {stated}"


def _processing(record: ModelRecord) -> Iterator[str]:
    tokenized = record.tokenized
    yield from _section("3. Data processing aspects", level=2)
    yield from _section(
        "3.1. Respect of reservation of rights from text and data mining exception or limitation",
        f"Signatory to the Code of Practice: {NOT_RECORDED}",
        f"Measures to respect reservations of rights: {NOT_RECORDED}",
    )
    yield from _section(
        "3.2. Removal of illegal content", f"Measures that were taken: {NOT_RECORDED}"
    )
    yield from _section(
        "3.3. Other information",
        f"Examples left out as too long: {value(tokenized and tokenized.dropped_too_long)}",
        f"Conversations left out, by reason: {value(tokenized and tokenized.refused)}",
        f"Records that quality checks flagged, by check: {_flagged(record)}",
        f"SHA-256 of the content: {value(record.data and record.data.content_digest)}",
    )


def _flagged(record: ModelRecord) -> str:
    if record.quality is None:
        return NOT_RECORDED
    found = [f"{name.replace('_', ' ')} {each:,}" for name, each in record.quality.items() if each]
    return ", ".join(found) or f"none, by {len(record.quality)} checks"


def _section(title: str, *lines: str, level: int = 3) -> list[str]:
    shown = [f"- {line}" for line in lines]
    return [f"{'#' * level} {title}", "", *shown, *([""] if shown else [])]
