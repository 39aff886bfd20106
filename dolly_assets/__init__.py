"""Fine-tuned language models as data assets, made by Dagster and DeepSpeed in an object store.

What a notebook needs of it, loaded when it is first used, so that importing the package costs
nothing:

    import dolly_assets as dolly

    dolly.epochs("demo", "demo")  # losses, scores and speed of each epoch
    dolly.steps("demo", "demo")  # loss, rate, tokens and seconds of each step
    model = dolly.open_model("demo", dataset="demo", epoch=3)
    model.answer("Name the last word.", "brush grape")

`open_store()` and `families()` give what the command line works on: the store that `DOLLY_STORE`
names, and the model families that are declared in YAML. Everything else is in
`dolly_assets.notebook`.
"""

# As `typing` names it, which importing would be most of the cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolly_assets.notebook import Model, epochs, families, open_model, open_store, steps

__version__ = "0.2.0"

__all__ = [
    "Model",
    "__version__",
    "epochs",
    "families",
    "open_model",
    "open_store",
    "steps",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dolly_assets import notebook

    value = getattr(notebook, name)
    globals()[name] = value  # the next look-up finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
