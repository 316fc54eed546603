"""Step 9."""

from headwater.decisions.customer import FEATURES
from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql, Setup


class ForbiddenFeatures(Guardrail):
    """The policy asks for a feature that must not decide whom to treat how, so nothing it says is used.

    Forbidden: who somebody is (name, address, phone, birth), and what the law or decency protects (gender, origin, health,
    belief …). Anything that is neither forbidden nor among the known buckets is refused as well.
    """

    name = "forbidden_features"
    step = 9

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._asked = tuple(name for name in setup.policy.features if not allowed(name))

    def check(self, case: Case, option: Option) -> Option | None:
        return None if self._asked else option

    def sql(self, now: Now) -> RuleSql:
        return RuleSql(blocked="true" if self._asked else "false")


FORBIDDEN = frozenset(
    [
        "customer_id",
        "person_id",
        "email",
        "phone",
        "first_name",
        "last_name",
        "name",
        "company",
        "street",
        "address",
        "postal_code",
        "city",
        "ip",
        "device_id",
        "gender",
        "sex",
        "age",
        "birth_date",
        "date_of_birth",
        "race",
        "ethnicity",
        "nationality",
        "religion",
        "belief",
        "politics",
        "union",
        "health",
        "disability",
        "orientation",
        "marital_status",
        "pregnancy",
        "income_source",
        "time_zone",
    ]
)


def allowed(feature: str) -> bool:
    """Whether a policy may see this feature."""
    return feature in FEATURES and feature not in FORBIDDEN
