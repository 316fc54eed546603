"""The base of every settings class: frozen, and an unknown key is an error.

A setting is declared once, in the `settings.py` of the stage that it sets; `config.py` composes them into `headwater.yml`.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
