"""The sources as the collector holds them: settings with their plan read, their masks made, their secret looked up."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headwater.collect import mask as mask_of
from headwater.collect import plan as plan_of
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends. `plan` None = everything is planned; `mask` is falsy when nothing is masked."""

    name: str
    write_key: str
    mask: mask_of.Mask
    plan: plan_of.Plan | None = None
    secret: bytes | None = None
    deletes: bool = False


@dataclass(frozen=True)
class Sources:
    """All sources, by write key and by name. `any_masked`: bodies of unknown senders are kept as digests only."""

    by_key: Mapping[str, Source]
    by_name: Mapping[str, Source]

    @property
    def any_masked(self) -> bool:
        return any(source.mask for source in self.by_name.values())


def load(settings: CollectSettings, folder: Path) -> Sources:
    """The sources of a project. Raises ConfigError for a plan, a key or a secret that is not there."""
    masks = mask_of.load(settings)
    found = {}
    for given in settings.sources:
        secret = None
        if given.webhook_secret_env:
            secret = os.environ.get(given.webhook_secret_env, "").encode()
            if not secret:
                raise ConfigError(
                    f"source {given.name}: {given.webhook_secret_env} is not set in the environment. Set it to the shared "
                    "secret of the webhook destination, or remove `webhook_secret_env`"
                )
        masks_any = bool(masks[given.name])
        found[given.name] = Source(
            name=given.name,
            write_key=given.write_key,
            mask=masks[given.name],
            plan=plan_of.load(folder / given.tracking_plan, masks_any) if given.tracking_plan else None,
            secret=secret,
            deletes=given.deletes,
        )
    return Sources({source.write_key: source for source in found.values()}, found)
