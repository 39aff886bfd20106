"""What a family's YAML states about its template and its labels. It opens no file but the YAML's.

The text of a template file travels in the family, so that workers need no file.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from dolly_assets.core.base import Config
from dolly_assets.core.errors import ConfigurationError

BUNDLED = ("dolly", "alpaca", "chatml")
NAMES = ("base", *BUNDLED)
_LARGEST_CHARACTERS = 1 << 20


def is_known(template: str) -> bool:
    """Whether a YAML's template is a name or a path, whatever is there."""
    return template in NAMES or template.startswith((".", "/", "~")) or template.endswith(".jinja")


class TemplateFile(Config):
    """A template from a file beside the YAML."""

    name: str = Field(min_length=1, description="The file's name.")
    text: str = Field(min_length=1, description="Its content.")

    @classmethod
    def read(cls, path: str, folder: Path) -> Self:
        """Read the file that a YAML names; relative paths count from the YAML's folder.

        Raises:
            ConfigurationError: It cannot be read, is empty or far too large.
        """
        file = folder / Path(path).expanduser()
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"template: {file} cannot be read as UTF-8 text ({error}); name one of "
                f"{', '.join(NAMES)}, or a Jinja file beside the YAML, such as ./chat.jinja"
            ) from error
        if not text.strip() or len(text) > _LARGEST_CHARACTERS:
            raise ConfigurationError(
                f"template: {file} has {len(text):,} characters: expected a Jinja chat template of "
                f"at most {_LARGEST_CHARACTERS:,}"
            )
        return cls(name=file.name, text=text)


class Labels(Config):
    """Which tokens of a conversation are trained."""

    turns: Literal["all", "last"] = Field(
        default="all", description="Which of the assistant's turns are trained."
    )
    reasoning: bool = Field(
        default=True,
        description="Whether a turn's reasoning is trained, too. If not, it carries no labels, and "
        "a template may leave it out.",
    )
    rewritten_history: Literal["split", "refuse"] = Field(
        default="split",
        description="What becomes of a conversation whose earlier turns the template shows "
        "otherwise once they are history: an example per turn that it changes, or nothing.",
    )
    too_long: Literal["drop", "keep_last_turns"] = Field(
        default="drop",
        description="What becomes of a conversation longer than recipe.max_length: it is dropped, "
        "or its last turns are kept, together with the system message.",
    )
