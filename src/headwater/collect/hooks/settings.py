"""The settings of what tools tell us."""

from typing import Annotated

from pydantic import Field

from headwater.settings import Settings


class HubSpotHookSettings(Settings):
    """Webhooks of a HubSpot app, sent to /v1/hubspot/<name of the source>."""

    secret_env: Annotated[str, Field(description="environment variable with the app's client secret")] = (
        "HUBSPOT_CLIENT_SECRET"  # noqa: S105 (a name, not a value)
    )
    url: Annotated[
        str | None,
        Field(
            description="the address as it stands in HubSpot, which signs it; null = as it was asked for",
            pattern=r"^https?://",
        ),
    ] = None
    max_age_seconds: Annotated[
        float, Field(gt=0, description="a call that was signed longer ago may be a replay and is refused, seconds")
    ] = 300
    events: Annotated[
        dict[str, str], Field(description="event names for changes of further contact properties: property to event")
    ] = {}


class SalesforceHookSettings(Settings):
    """Outbound messages of Salesforce, sent to /v1/salesforce/<name of the source>?token=…"""

    organization_id: Annotated[
        str,
        Field(description="id of the organisation that may send, 15 or 18 characters", pattern=r"^00D\w{12}(\w{3})?$"),
    ]
    token_env: Annotated[str, Field(description="environment variable with the token that stands in the address")] = (
        "SALESFORCE_HOOK_TOKEN"  # noqa: S105 (a name, not a value)
    )
    person_field: Annotated[
        str | None,
        Field(
            description="field of the message that holds our id of the person, e.g. Person_Id__c; null = Salesforce's own id"
        ),
    ] = None
