"""The base of everything that is declared: frozen, and strict about unknown keys."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A validated, immutable piece of configuration, in which an unknown key is an error.

    Errors do not show the values that were given, which may be secrets.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=False, hide_input_in_errors=True
    )
