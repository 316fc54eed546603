"""How brokers of Kafka are reached: one group of settings for whoever reads or writes there."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headwater.errors import ConfigError
from headwater.settings import Settings

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Brokers(Settings):
    """Where the brokers are, and who we are there. Secrets are named here and stand in the environment."""

    bootstrap_servers: Annotated[str, Field(min_length=1, description="brokers, host:port, separated by commas")]
    security_protocol: Annotated[
        Protocol,
        Field(description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL (Confluent, Upstash-like and MSK clusters)"),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Mechanism | None, Field(description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; null = none")
    ] = None
    username_env: Annotated[str | None, Field(description="environment variable with the user or API key")] = None
    password_env: Annotated[str | None, Field(description="environment variable with the password or API secret")] = (
        None
    )
    ca_file: Annotated[str | None, Field(description="file with the authorities to trust; null = the system's")] = None
    certificate_file: Annotated[
        str | None, Field(description="file with our certificate, where the brokers ask for one; null = none")
    ] = None
    key_file: Annotated[str | None, Field(description="file with the key of that certificate; null = none")] = None
    key_password_env: Annotated[
        str | None, Field(description="environment variable with the password of that key; null = it has none")
    ] = None

    @model_validator(mode="after")
    def _whole(self) -> "Brokers":
        sasl = self.security_protocol.startswith("SASL")
        if sasl != (self.sasl_mechanism is not None):
            raise ValueError(
                f"security_protocol {self.security_protocol} and sasl_mechanism {self.sasl_mechanism or 'null'} do not go "
                "together: a SASL protocol needs a mechanism, and only such a protocol"
            )
        if sasl and not (self.username_env and self.password_env):
            raise ValueError("a SASL protocol needs username_env and password_env")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self

    @property
    def secret_names(self) -> Sequence[str]:
        """Environment variables that hold secrets."""
        return [name for name in (self.username_env, self.password_env, self.key_password_env) if name]

    def secrets(self, environment: Mapping[str, str]) -> list[str]:
        """The secrets that are set."""
        return [value for name in self.secret_names if (value := environment.get(name))]

    def client(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a client of librdkafka. Raises ConfigError naming the variables that are not set."""
        missing = [name for name in self.secret_names if not environment.get(name)]
        if missing:
            raise ConfigError(f"the environment has no {', '.join(missing)}: set them, then run again")
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "client.id": "headwater",
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
        named = {
            "sasl.username": self.username_env,
            "sasl.password": self.password_env,
            "ssl.key.password": self.key_password_env,
        }
        settings |= {key: environment[name] for key, name in named.items() if name}
        plain = {
            "sasl.mechanism": self.sasl_mechanism,
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
        }
        return settings | {key: value for key, value in plain.items() if value}
