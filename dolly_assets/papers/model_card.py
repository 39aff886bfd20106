"""The model card: Markdown with the Hub's metadata, written from what the store records alone.

Knows the Hub's keys (https://huggingface.co/docs/hub/model-cards) and the sections of a card. What
is not recorded says so, and no sentence describes a model that nobody has measured.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dolly_assets import __version__
from dolly_assets.core.markdown import code_block, inline
from dolly_assets.core.text import dollars
from dolly_assets.datasets.sources import HUB_ID
from dolly_assets.papers.licensing import card_license
from dolly_assets.papers.record import ModelRecord
from dolly_assets.papers.wording import (
    NOT_RECORDED,
    joules,
    measured,
    pairs,
    score,
    source_name,
    time,
    value,
)

HELD_OUT = {
    "exact_match": ("exact_match", "Exact match"),
    "token_f1": ("f1", "Token F1"),
    "held_out_loss": ("loss", "Held-out loss (nats per labelled token)"),
}
"""Scores of an evaluation: the metric's type on the Hub, and its name."""


def model_card(record: ModelRecord) -> str:
    """Return the card as Markdown, with its metadata as YAML in front."""
    front = yaml.safe_dump(metadata(record), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n{card_text(record)}"


def metadata(record: ModelRecord) -> dict[str, Any]:
    """Return the metadata that the Hub reads."""
    base, data = record.base_model, record.data
    found: dict[str, Any] = {
        **card_license(record.facts["licenses"]),
        "library_name": "peft" if record.is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["dolly_assets", "conversational"],
    }
    if base and (match := HUB_ID.fullmatch(base.source)):
        found["base_model"] = match["name"]
        found["base_model_relation"] = "adapter" if record.is_adapter else "finetune"
    if data and data.format == "hub" and (match := HUB_ID.fullmatch(data.source or "")):
        found["datasets"] = [match["name"]]
    if results := _results(record):
        found["model-index"] = [{"name": record.title, "results": results}]
    found["dolly_assets"] = {"artifact": record.model.name, "digest": record.model.digest}
    return found


def _results(record: ModelRecord) -> list[dict[str, Any]]:
    """Return the scores as the Hub's `model-index` has them."""
    at, evaluation = record.address, record.evaluation
    found = []
    if evaluation:
        held_out = {name: getattr(evaluation, name) for name in HELD_OUT}
        metrics = [
            _metric(*HELD_OUT[name], found_score, getattr(evaluation, f"{name}_interval"))
            for name, found_score in held_out.items()
            if found_score is not None
        ]
        found.append(_result(at.dataset, metrics, split="held_out"))
    for name, suite in record.suites.items():
        scored = (
            ("score", "Score", suite.score, suite.score_interval),
            ("bits_per_byte", "Bits per byte", suite.bits_per_byte, suite.bits_per_byte_interval),
        )
        metrics = [_metric(*each) for each in scored if each[2] is not None]
        found.append(_result(name, metrics))
    return [each for each in found if each["metrics"]]


def _metric(
    kind: str, name: str, found: float | None, interval: Sequence[float] | None
) -> dict[str, Any]:
    bounds = {"args": {"interval_95_percent": [*interval]}} if interval else {}
    return {"type": kind, "name": name, "value": found, **bounds}


def _result(dataset: str, metrics: list[dict[str, Any]], split: str = "") -> dict[str, Any]:
    described = {"name": dataset, "type": dataset, **({"split": split} if split else {})}
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": described,
        "metrics": metrics,
    }


def card_text(record: ModelRecord) -> str:
    """Return the card without its metadata."""
    sections = {
        "": _summary,
        "Data": _data,
        "Licences and obligations": _licenses,
        "Training": _training,
        "Hardware, time, energy and cost": _cost,
        "Scores": _scores,
        "Sample answers": _samples,
        "Limits": _limits,
        "How to prompt": _prompting,
        "Origin": _origin,
    }
    texts = [f"# {record.title}"]
    for title, section in sections.items():
        texts += [*([f"## {title}"] if title else []), "\n\n".join(section(record))]
    return "\n\n".join(texts) + "\n"


def _summary(record: ModelRecord) -> Iterator[str]:
    base = record.base_model
    kind = "An adapter (LoRA)" if record.is_adapter else "A language model"
    is_from_scratch = _is_untrained(record) and not record.is_adapter
    how = "trained from scratch" if is_from_scratch else f"fine-tuned from {base_name(record)}"
    made = f"{kind}, {how} on the dataset {inline(record.address.dataset)}."
    yield made if record.stated.epoch else f"The base model, {base_name(record)}, not fine-tuned."
    rows = {
        "architecture": value(base and base.architecture),
        "parameters of the base model": value(base and base.parameters),
        "context length": value(base and base.context_length),
        "data type": value(base and base.dtype),
        "commercial use": value(record.facts["commercial_use"]),
    }
    if record.champion and record.champion.reason:
        rows["stage"] = f"{record.model.manifest.kind}: {inline(record.champion.reason)}"
    yield pairs("model", rows)


def _is_untrained(record: ModelRecord) -> bool:
    return record.base_model is not None and record.base_model.source == "untrained"


def base_name(record: ModelRecord) -> str:
    """Return what the base model is, in Markdown."""
    base = record.base_model
    if base is None:
        return f"a base model that is {NOT_RECORDED}"
    if _is_untrained(record):
        return "an untrained model"
    revision = f" at commit {base.revision}" if base.revision else ""
    return inline(f"{source_name(base.source)}{revision}")


def _data(record: ModelRecord) -> Iterator[str]:
    records = {**(record.facts["records"] or {})}
    records["source"] = source_name(records.get("source"))
    names = {
        "dataset": "dataset",
        "source": "source",
        "revision": "revision",
        "license": "licence",
        "rows": "records",
        "train_examples": "examples trained on",
        "held_out_examples": "examples held out",
        "dropped_too_long": "examples left out as too long",
        "train_tokens": "tokens trained on, per epoch",
        "content_digest": "SHA-256 of the content",
    }
    yield pairs("data", {title: value(records.get(name)) for name, title in names.items()})
    if record.data and record.data.reading:
        yield "How it was read:\n\n" + "\n".join(
            f"- {inline(line)}" for line in record.data.reading
        )


def _licenses(record: ModelRecord) -> Iterator[str]:
    licenses, obligations = record.facts["licenses"], record.facts["obligations"]
    if not licenses:
        yield f"Licences of data and base model: {NOT_RECORDED}."
        return
    yield pairs("made from", {inline(name): inline(each) for name, each in licenses.items()})
    yield f"Commercial use: {value(record.facts['commercial_use'])}."
    yield "\n".join(f"- {inline(each)}" for each in obligations or ["no obligations are known"])


def _training(record: ModelRecord) -> Iterator[str]:
    recipe: Mapping[str, Any] | None = record.facts["hyper_parameters"]
    if not recipe:
        yield f"Recipe: {NOT_RECORDED if record.stated.epoch else 'nothing was trained'}."
        return
    yield pairs(
        "recipe",
        {f"`{name}`": "none" if each is None else value(each) for name, each in recipe.items()},
    )
    lines = [
        "| epoch | steps | training loss | tokens | tokens/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for epoch in record.epochs:
        trained = epoch.trained
        lines.append(
            f"| {trained.epoch} | {value(trained.steps)} | {measured(trained.loss, '.4f')} | "
            f"{value(trained.real_tokens)} | {measured(trained.tokens_per_second, ',.0f')} |"
        )
    yield "\n".join(lines)


def _cost(record: ModelRecord) -> Iterator[str]:
    usd, co2 = record.measured("usd"), record.measured("co2_grams")
    yield pairs(
        "all epochs",
        {
            "devices": "; ".join(_devices(record)) or NOT_RECORDED,
            "training": time(record.total("training_seconds")),
            "saving, while no rank trained": time(record.total("saving_seconds")),
            "GPU-hours": measured(record.measured("gpu_hours"), ".3f"),
            "energy of the GPUs": joules(record.measured("energy_joules")),
            "cost": NOT_RECORDED if usd is None else dollars(usd),
            "CO₂ of the GPUs": measured(co2, ",.1f", " g"),
        },
    )
    if record.epochs and all(e.profile and e.profile.device_kind == "cpu" for e in record.epochs):
        yield "It was trained on CPUs, whose energy and cost are not measured."


def _devices(record: ModelRecord) -> list[str]:
    """Return the kinds of machines that trained it, each once."""
    found = {}
    for device in record.facts["devices"]:
        names = ", ".join(sorted({*device.get("device_names", [])}))
        kind = device.get("device_kind") or f"devices {NOT_RECORDED}"
        ranks = device.get("ranks")
        found[f"{'?' if ranks is None else ranks} × {names or kind}"] = None
    return [inline(each) for each in found]


def _scores(record: ModelRecord) -> Iterator[str]:
    evaluation = record.evaluation
    if evaluation is None and not record.suites:
        yield f"Scores: {NOT_RECORDED}."
        return
    lines = ["| what | score (95 % interval) | of |", "| --- | --- | --- |"]
    if evaluation:
        of = f"{value(evaluation.held_out_examples)} held-out examples"
        for name, (_, title) in HELD_OUT.items():
            interval = getattr(evaluation, f"{name}_interval")
            lines.append(f"| {title} | {score(getattr(evaluation, name), interval)} | {of} |")
    for name, suite in record.suites.items():
        of = f"{suite.records:,} records of the suite {name}"
        lines.append(f"| {name}: score | {score(suite.score, suite.score_interval)} | {of} |")
        bits = score(suite.bits_per_byte, suite.bits_per_byte_interval)
        lines.append(f"| {name}: bits per byte | {bits} | {of} |")
    yield "\n".join(lines)
    if evaluation and evaluation.exact_match_by_category:
        shares = evaluation.exact_match_by_category
        yield pairs(
            "exact match by category",
            {inline(name): f"{each:.4f}" for name, each in sorted(shares.items())},
        )


def _samples(record: ModelRecord) -> Iterator[str]:
    yield record.samples_markdown or f"Sample answers: {NOT_RECORDED}."


def _limits(record: ModelRecord) -> Iterator[str]:
    recipe = record.facts["hyper_parameters"] or {}
    evaluation, quality = record.evaluation, record.quality
    memorized = evaluation and score(evaluation.memorization, evaluation.memorization_interval)
    lines = [
        f"Examples had at most {value(recipe.get('max_length'))} tokens; longer ones are left out.",
        "Verbatim memorization of training records, above that of held-out ones: "
        f"{memorized or NOT_RECORDED}.",
        "Expected calibration error: "
        f"{measured(evaluation and evaluation.calibration_error, '.4f')}.",
        f"Evaluation of bias, safety and other languages: {NOT_RECORDED}.",
    ]
    for name, suite in record.suites.items():
        lines += [f"Suite {name}: {inline(each)}." for each in suite.warnings]
        if suite.contamination:
            lines.append(f"Suite {name}: {inline(suite.contamination)}.")
    if quality is None:
        lines.append(f"Quality checks of the data: {NOT_RECORDED}.")
    else:
        found = {name.replace("_", " "): count for name, count in quality.items() if count}
        shown = ", ".join(f"{name} {count:,}" for name, count in found.items())
        lines.append(f"Records that quality checks of the data flagged: {shown or 'none'}.")
    yield "\n".join(f"- {line}" for line in lines)


def _prompting(record: ModelRecord) -> Iterator[str]:
    stated = record.stated.model_extra or {}
    facts = (record.base_model and record.base_model.template_facts) or {}
    yield pairs(
        "template",
        {
            "name": value(stated.get("template")),
            "SHA-256 of its text": value(stated.get("template_digest")),
            "an answer ends with": value(facts.get("end_tokens")),
            "ids of the tokens at which to stop": value(_stops(record)),
        },
    )
    if record.template is None:
        yield f"The template's text: {NOT_RECORDED}."
        return
    yield (
        "The tokenizer carries the template: "
        '`tokenizer.apply_chat_template([{"role": "user", "content": "…"}], '
        "add_generation_prompt=True)`."
    )
    template = code_block(record.template.rstrip(), "jinja")
    yield f"<details><summary>The template</summary>\n\n{template}\n\n</details>"


def _stops(record: ModelRecord) -> list[int] | None:
    ends = json.loads(record.generation_config or "{}").get("eos_token_id")
    return [ends] if isinstance(ends, int) else ends


def _origin(record: ModelRecord) -> Iterator[str]:
    lines = ["| made from | digest |", "| --- | --- |"]
    for each in record.facts["made_from"]:
        lines.append(f"| {inline(each['name'])} | `{each['digest']}` |")
    yield "\n".join(lines)
    code = record.facts["code"][0]
    yield (
        f"Published by dolly_assets {value(code.get('dolly_assets'))}, SHA-256 of its code "
        f"{value(code.get('code'))}. This card was written by dolly_assets {__version__} from the "
        "manifests of the store; nothing in it was typed by hand."
    )
