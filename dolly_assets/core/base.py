"""The base of everything that is declared: frozen, and strict about keys it does not know."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A validated, immutable piece of configuration. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)
