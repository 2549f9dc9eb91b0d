"""diptych: image-to-image translation from a few pairs and many unpaired images.

>>> from diptych import Translator
>>> Translator.from_pretrained("runs/x")("photo.jpg").save("out.png")

The commands are functions of `diptych.commands`, their settings the models of `diptych.config`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.translator import Translator

__all__ = ["Translator", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds; nobody should wait for it who only asks for --help.
    if name == "Translator":
        from diptych.translator import Translator

        return Translator
    raise AttributeError(f"module 'diptych' has no attribute {name!r}")
