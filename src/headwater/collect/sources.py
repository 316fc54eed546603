"""The sources as the collector holds them: settings with their plan read, their masks made, their secret looked up."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headwater.collect import mask as mask_of
from headwater.collect import plan as plan_of
from headwater.collect.hooks import Hook
from headwater.collect.hooks.hubspot import HubSpot
from headwater.collect.hooks.salesforce import Salesforce
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends. `plan` None = everything is planned; `mask` is falsy when nothing is masked; `hooks`: by tool, how its calls are
    believed and read."""

    name: str
    write_key: str
    mask: mask_of.Mask
    plan: plan_of.Plan | None = None
    secret: bytes | None = None
    deletes: bool = False
    hooks: Mapping[str, Hook] = field(default_factory=dict)


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
            what = "the shared secret of the webhook destination, or remove `webhook_secret_env`"
            secret = _secret(given, given.webhook_secret_env, what)
        masks_any = bool(masks[given.name])
        found[given.name] = Source(
            name=given.name,
            write_key=given.write_key,
            mask=masks[given.name],
            plan=plan_of.load(folder / given.tracking_plan, masks_any) if given.tracking_plan else None,
            secret=secret,
            deletes=given.deletes,
            hooks=_hooks(given),
        )
    return Sources({source.write_key: source for source in found.values()}, found)


def _hooks(given: SourceSettings) -> dict[str, Hook]:
    hooks: dict[str, Hook] = {}
    if given.hubspot is not None:
        told = given.hubspot
        secret = _secret(
            given, told.secret_env, "the client secret of the HubSpot app, or remove `hubspot` from the source"
        )
        hooks["hubspot"] = HubSpot(secret, told.url, told.max_age_seconds, told.events)
    if given.salesforce is not None:
        sent = given.salesforce
        token = _secret(
            given, sent.token_env, "the token of the messages' address, or remove `salesforce` from the source"
        )
        hooks["salesforce"] = Salesforce(sent.organization_id, token, sent.person_field)
    return hooks


def _secret(given: SourceSettings, variable: str, what: str) -> bytes:
    secret = os.environ.get(variable, "").encode()
    if not secret:
        raise ConfigError(f"source {given.name}: {variable} is not set in the environment. Set it to {what}")
    return secret
