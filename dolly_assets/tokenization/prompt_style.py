"""How an example is laid out as text: Dolly's format, with configurable wording.

It knows nothing of tokenizers; `dolly_assets.tokenization.encode` turns the text into token ids.
"""

from typing import Self

from pydantic import Field, model_validator

from dolly_assets.core.base import Config


class PromptStyle(Config):
    """The wording around instruction, context and response.

    The layout and the defaults are those that Databricks published with Dolly
    (https://github.com/databrickslabs/dolly, `training/consts.py`).
    """

    intro: str = Field(
        default=(
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request."
        ),
        description="Text that opens every prompt; may be empty.",
    )
    instruction_key: str = Field(
        default="### Instruction:",
        min_length=1,
        description="Line before the instruction; a special token.",
    )
    context_key: str = Field(
        default="Input:",
        min_length=1,
        description="Line before the context, if there is one; plain text.",
    )
    response_key: str = Field(
        default="### Response:",
        min_length=1,
        description="Line before the response; a special token together with its line break.",
    )
    end_key: str = Field(
        default="### End", min_length=1, description="Text that ends a response; a special token."
    )

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        keys = [self.instruction_key, self.context_key, self.response_key, self.end_key]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise ValueError(
                "instruction_key, context_key, response_key and end_key must differ; "
                f"found {repeated} twice"
            )
        return self

    @property
    def response_marker(self) -> str:
        """The end of every prompt, one special token: the response begins right after it."""
        return self.response_key + "\n"

    @property
    def special_tokens(self) -> tuple[str, str, str]:
        """End, instruction and response marker, in the order in which Dolly adds them."""
        return self.end_key, self.instruction_key, self.response_marker

    def prompt(self, instruction: str, context: str = "") -> str:
        """Return the text that the model is given; it ends with the response marker."""
        intro = f"{self.intro}\n\n" if self.intro else ""
        context_block = f"{self.context_key}\n{context}\n\n" if context else ""
        return (
            f"{intro}{self.instruction_key}\n{instruction}\n\n{context_block}{self.response_marker}"
        )

    def completion(self, response: str) -> str:
        """Return the text that the model is to answer; it ends with the end key."""
        return f"{response}\n\n{self.end_key}"
