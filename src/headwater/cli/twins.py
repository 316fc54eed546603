"""The local twins of the tools that Headwater delivers to."""

from contextlib import suppress
from typing import Annotated, Literal

import typer

from headwater.cli.apps import app
from headwater.cli.screen import console

PORTS = {"salesforce": 8790, "hubspot": 8791}


@app.command()
def twin(
    name: Annotated[Literal["salesforce", "hubspot"], typer.Argument(help="which tool")],
    port: Annotated[int | None, typer.Option(help="port on this machine; 8790 salesforce, 8791 hubspot", min=0)] = None,
) -> None:
    """A CRM on this machine that answers as the real one does, with a page that shows what arrived; Ctrl-C ends it."""
    import threading

    from headwater.testing.twins import hubspot, salesforce, serving

    made: serving.Twin
    if name == "salesforce":
        made = salesforce.Salesforce()
        secrets = {"SALESFORCE_CLIENT_ID": made.client_id, "SALESFORCE_CLIENT_SECRET": made.client_secret}
        option = "login_url"
    else:
        made = hubspot.HubSpot(open_schema=True)
        secrets = {"HUBSPOT_TOKEN": made.token}
        option = "base_url"
    screen = console()
    with serving.serve(made, port=PORTS[name] if port is None else port) as address:
        screen.print(f"{name} twin on {address} (open it in a browser to see what arrived)", markup=False)
        screen.print(f"  in headwater.yml    options: {{{option}: {address}}}", markup=False)
        screen.print(
            f"  in the environment  {' '.join(f'{key}={value}' for key, value in secrets.items())}", markup=False
        )
        screen.print("Ctrl-C ends it; nothing is kept", markup=False)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
