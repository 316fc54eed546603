"""The twins that stand beside a project: their syncs in `headwater.yml`, their records in `twins/`, their servers while something delivers.

`headwater demo` adds the syncs once. Whatever delivers in such a project (`demo`, `activate`, `up`) has the twins standing
meanwhile; `headwater twin NAME` lets one stand for longer, with the records that are there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from headwater.errors import UsageError
from headwater.stack import Stack
from headwater.testing.twins.hubspot import HubSpot
from headwater.testing.twins.salesforce import Salesforce
from headwater.testing.twins.serving import serve
from headwater.testing.twins.shelf import Nowhere, Shelf

PORTS = {"salesforce": 8790, "hubspot": 8791}
OPTIONS = {"salesforce": "login_url", "hubspot": "base_url"}

_DESTINATIONS = """
  salesforce:            # a twin on this machine (`headwater twin salesforce`); your own domain's address in its place sends there
    type: salesforce
    options:
      login_url: http://127.0.0.1:8790
      object: Lead
      external_id: Person_Id__c
      removal: {MQL_Status__c: Lapsed}   # a lead that stops qualifying is never deleted
  hubspot:               # a twin on this machine (`headwater twin hubspot`); without base_url it is HubSpot itself
    type: hubspot
    rate_per_second: 19  # 190 calls in ten seconds
    options: {object: contacts, id_property: email, base_url: "http://127.0.0.1:8791"}
"""
_SYNCS = """
  - name: mql_to_salesforce
    model: user_alerts
    destination: salesforce
    mode: mirror
    key: person_id
    requires: [LastName]   # Salesforce refuses a lead without one: it waits here instead
    fields:
      FirstName: first_name
      LastName: last_name
      Company: "{company|Unknown}"
      Email: email
      Country: country
      MQL_Score__c: mql_score
      MQL_Status__c: "'Qualified'"
      Last_Event_At__c: last_event_at

  - name: contacts_to_hubspot
    model: mart_marketing__customer_360
    destination: hubspot
    where: email is not null
    key: email
    key_form: lower        # two addresses that differ in case are one contact
    prefer: updated_at desc
    fields:
      firstname: first_name
      lastname: last_name
      city: city
      country: country
      email_opt_in: email_opt_in
      rule_segment: rule_segment
      ml_segment: ml_segment
      lifetime_revenue: lifetime_revenue
"""


def add(folder: Path) -> None:
    """Put the destinations and syncs of both twins into the `headwater.yml` of a project that was just made."""
    path = folder / "headwater.yml"
    text = path.read_text(encoding="utf-8")
    before, mark, after = text.partition("\n# alerts:")
    text = f"{before.rstrip()}{_DESTINATIONS}{mark}{after.rstrip()}\n{_SYNCS}"
    path.write_text(text, encoding="utf-8")


def made(name: str, folder: Path | None) -> Salesforce | HubSpot:
    """A twin with the records that a project has of it; without a project its records end with it.

    Raises UsageError when it stands already.
    """
    shelf: Shelf | Nowhere = Nowhere()
    if folder is not None:
        try:
            shelf = Shelf(folder / "twins" / f"{name}.sqlite")
        except UsageError as error:
            at = f" on http://127.0.0.1:{port(name, folder)}"
            raise UsageError(f"the {name} twin of this project stands already{at}") from error
    return Salesforce(shelf=shelf) if name == "salesforce" else HubSpot(shelf=shelf, open_schema=True)


def secrets(twin: Salesforce | HubSpot) -> dict[str, str]:
    """Environment variables with which a sync gets into the twin."""
    if isinstance(twin, HubSpot):
        return {"HUBSPOT_TOKEN": twin.token}
    return {"SALESFORCE_CLIENT_ID": twin.client_id, "SALESFORCE_CLIENT_SECRET": twin.client_secret}


def port(name: str, folder: Path | None) -> int:
    """Where the project looks for the twin; the twin's usual port where it does not."""
    found = _address(name).search(_settings(folder)) if folder is not None else None
    return int(found[2]) if found else PORTS[name]


@contextmanager
def standing(folder: Path) -> Iterator[None]:
    """Both twins answer, as far as the project has syncs for them, where `headwater.yml` looks for them.

    One that stands already is used. Where somebody else has its port it takes another, and `headwater.yml` says so then.
    """
    with ExitStack() as stack:
        for name in PORTS:
            if not _address(name).search(_settings(folder)):
                continue
            with suppress(UsageError):
                twin = made(name, folder)
                stack.callback(twin.shelf.close)
                try:
                    address = stack.enter_context(serve(twin, port=port(name, folder)))
                except UsageError:
                    address = stack.enter_context(serve(twin))
                _look_for(name, folder, address)
        for name in PORTS:
            for variable, value in secrets(made(name, None)).items():
                if variable not in os.environ:
                    os.environ[variable] = value
                    stack.callback(os.environ.pop, variable, None)
        yield


def _settings(folder: Path) -> str:
    try:
        return (folder / "headwater.yml").read_text(encoding="utf-8")
    except OSError:
        return ""


def _address(name: str) -> re.Pattern[str]:
    return re.compile(rf"({OPTIONS[name]}:\s*[\"']?http://127\.0\.0\.1:)(\d+)")


def _look_for(name: str, folder: Path, address: str) -> None:
    """Have `headwater.yml` say this address; it is the same twin, so that what is confirmed there stays so."""
    before, now = f":{port(name, folder)}", f":{address.rpartition(':')[2]}"
    if before == now:
        return
    text = _settings(folder)
    changed = _address(name).sub(lambda found: found[1] + now[1:], text)
    (folder / "headwater.yml").write_text(changed, encoding="utf-8")
    with Stack(folder) as stack, stack.locked("headwater twin"):
        stack.warehouse.execute(
            "update headwater.sync_places set place = replace(place, ?, ?) where starts_with(place, ?)",
            [f"//127.0.0.1{before} ", f"//127.0.0.1{now} ", f"{name} http://127.0.0.1{before} "],
        )
