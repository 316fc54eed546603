"""The settings of decisions on demand."""

from typing import Annotated

from pydantic import Field

from headwater.settings import Settings


class RealtimeSettings(Settings):
    port: Annotated[
        int | None, Field(ge=0, le=65535, description="port of POST /decide while the engine runs; null = off, 0 = any")
    ] = None
    host: Annotated[str, Field(description="address of POST /decide; 0.0.0.0 = reachable from elsewhere")] = "127.0.0.1"
    key_env: Annotated[
        str, Field(description="environment variable with the key that a request must bring as its bearer token")
    ] = "HEADWATER_DECIDE_KEY"
    refresh_seconds: Annotated[
        float,
        Field(
            ge=1, le=86_400, description="how often every customer is read anew, because buckets change with the clock"
        ),
    ] = 300
    max_waiting: Annotated[int, Field(ge=1, description="requests that may wait; the next is answered 429")] = 1000
