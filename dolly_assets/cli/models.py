"""`dolly models …`: the model families that are declared, and new ones."""

import json

import click

from dolly_assets.cli._options import json_option
from dolly_assets.cli._session import open_session


@click.group()
def models() -> None:
    """List the model families, and add new ones."""


@models.command("add")
@click.argument("name")
@click.argument("base")
@click.option(
    "--dataset",
    default="databricks_dolly_15k",
    show_default=True,
    metavar="D",
    help="Dataset that the family is made for.",
)
@click.option("--gpus", type=click.IntRange(1), metavar="N", help="GPUs of its machine.")
@click.option(
    "--device", metavar="NAME", help="Model of GPU, such as H100. Default: this machine's."
)
@click.option("--license", "license_id", metavar="L", help="Licence of BASE: an SPDX id.")
def models_add(
    name: str,
    base: str,
    dataset: str,
    gpus: int | None,
    device: str | None,
    license_id: str | None,
) -> None:
    """Add the family NAME of the model BASE, with a recipe that fits its GPUs by the plan.

    BASE is a folder or a Hub id; those that `dolly models list` shows need no connection. The
    family's defs.yaml goes into the folder DOLLY_DEFS, else beside the bundled families.
    """
    from dolly_assets.core.errors import ConfigurationError
    from dolly_assets.hardware.visible_gpus import visible_devices
    from dolly_assets.pipeline.declared import BUNDLED
    from dolly_assets.scaffolding.new_family import DEFS_FILE, NewFamily, write_family

    session = open_session()
    if name in session.families:
        raise ConfigurationError(f"the model family {name} already exists: choose another name")
    session.catalogue.get(dataset)
    here = [] if device else visible_devices()
    device = device or (here[0].name if here else None)
    if not device:
        raise ConfigurationError("this machine has no GPU: name one to plan for, as --device H100")
    new = NewFamily(base, dataset, device, gpus or len(here) or 1, license_id, session.prices)
    folder = (session.environment.more_defs or BUNDLED) / name
    text = write_family(folder, new)
    click.echo(f"added {name}: {folder / DEFS_FILE}\n\n{text}")
    click.echo(f"next: dolly train --model {name} --dataset {dataset}")


@models.command("list")
@json_option("Print one object: families, and the bases that need no connection.")
def models_list(*, as_json: bool) -> None:
    """List the declared families, and the bases that can be added without a connection."""
    from dolly_assets.scaffolding.bases import known_bases

    families = open_session().families.values()
    rows = [
        (family.name, family.base_model.source or "untrained", family.dataset)
        for family in families
    ]
    bases = [(base.source, base.license, base.shape.parameters) for base in known_bases().values()]
    if as_json:
        shown = {
            "families": [dict(zip(("name", "base", "dataset"), row, strict=True)) for row in rows],
            "bases": [
                dict(zip(("source", "license", "parameters"), row, strict=True)) for row in bases
            ],
        }
        click.echo(json.dumps(shown, indent=1))
        return
    for name, source, dataset in rows:
        click.echo(f"{name:<24} {source:<36} {dataset}")
    click.echo("\nto add, as `dolly models add NAME BASE`:")
    for source, license_id, parameters in bases:
        click.echo(f"  {source:<38} {license_id:<12} {parameters / 1e9:6.2f} billion parameters")
