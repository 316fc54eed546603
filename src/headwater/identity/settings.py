"""Settings of identity resolution."""

from typing import Annotated

from pydantic import Field

from headwater.identity.resolve import Limits
from headwater.settings import Settings


class IdentitySettings(Settings):
    """Section `identity:`. A limit that is reached refuses the link, with its reason in `headwater.identity_links`."""

    email_limit: Annotated[int, Field(ge=0, description="e-mail addresses of one person; 0 = e-mail links nobody")] = 5
    device_limit: Annotated[int, Field(ge=0, description="device ids of one person; 0 = devices link nobody")] = 20
    anonymous_limit: Annotated[int, Field(ge=1, description="anonymous ids of one person")] = 1000
    merge_cap: Annotated[int, Field(ge=0, description="merges of two people of several ids each into one")] = 100
    mapping_cap: Annotated[int, Field(ge=2, description="ids of all kinds of one person")] = 1000
    blocked: Annotated[
        list[str],
        Field(description="values that mean nobody, beside those that Headwater knows (case does not matter)"),
    ] = []

    @property
    def limits(self) -> Limits:
        """The same, for `resolve`."""
        return Limits(
            email=self.email_limit,
            device=self.device_limit,
            anonymous=self.anonymous_limit,
            merges=self.merge_cap,
            mappings=self.mapping_cap,
        )
