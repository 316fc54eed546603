"""A server of its own for the collector's rows: `python -m benchmarks.collector_child product|planned|bare FOLDER`.

`bare` is the same HTTP server that reads each request and answers without doing anything. Writes its address to
`FOLDER/ready-<kind>`; ends at SIGTERM.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
import yaml

from headwater.collect.serve import serve
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.log.sqlite import SqliteLog

PLAN = {
    "events": {
        "Product Viewed": {
            "schema": {
                "type": "object",
                "required": ["product_id", "price"],
                "properties": {
                    "product_id": {"type": "string", "pattern": "^p[0-9]+$"},
                    "price": {"type": "number", "minimum": 0},
                    "currency": {"enum": ["USD", "EUR"]},
                    "quantity": {"type": "integer", "minimum": 1},
                },
            }
        }
    }
}


async def _bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        continue
    headers = [(b"content-type", b"application/json"), (b"content-length", b"16")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"success":true}'})


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    ready = folder / f"ready-{kind}"
    if kind == "bare":
        place = socket.socket()
        place.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            _bare, http="httptools", log_level="warning", access_log=False, server_header=False, proxy_headers=True
        )
        aside = ready.with_name(ready.name + ".new")
        aside.write_text(f"http://127.0.0.1:{place.getsockname()[1]}")
        place.listen(2048)
        aside.replace(ready)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(uvicorn.Server(config).serve([place]))
        return
    (folder / "plan.yml").write_text(yaml.safe_dump(PLAN))
    source = SourceSettings(
        name="website", write_key="website", tracking_plan="plan.yml" if kind == "planned" else None
    )
    serve(folder, CollectSettings(port=0, sources=[source]), SqliteLog(folder / f"{kind}.sqlite"), ready=ready)


if __name__ == "__main__":
    main()
