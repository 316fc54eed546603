"""What analytics.js asks for before it sends: its settings, and the bundles that it loads when it needs them."""

from pathlib import Path
from typing import Any

import msgspec
from starlette.staticfiles import StaticFiles

from headwater.errors import ConfigError

BUNDLES_PATH = "/analytics-next/bundles"


def settings_of(write_key: str, host: str, scheme: str) -> bytes:
    """The settings of analytics-next: one integration, which is us; `host` with its port, as browsers reach it."""
    ours: dict[str, Any] = {
        "apiKey": write_key,
        "apiHost": f"{host}/v1",
        "protocol": scheme,
        "unbundledIntegrations": [],
        "addBundledMetadata": True,
        "maybeBundledConfigIds": {},
        "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
    }
    return msgspec.json.encode(
        {
            "integrations": {"Segment.io": ours},
            "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
            "edgeFunction": {},
            "analyticsNextEnabled": True,
            "middlewareSettings": {},
            "enabledMiddleware": {},
            "metrics": {"sampleRate": 0},
            "legacyVideoPluginsEnabled": False,
            "remotePlugins": [],
        }
    )


def bundles(folder: Path) -> StaticFiles:
    """The files of analytics-next's `dist/umd`. Raises ConfigError when the folder is not there."""
    if not folder.is_dir():
        raise ConfigError(
            f"collect.bundles: {folder} is no folder; expected analytics-next's `dist/umd` "
            "(npm install @segment/analytics-next). Put it there, or remove the setting"
        )
    return StaticFiles(directory=folder)
