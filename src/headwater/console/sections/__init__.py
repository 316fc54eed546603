"""The parts of the report, one function each: what it asks (`queries`), what it draws (`charts`), what it says.

A function takes a `Reader` and answers a `Section`; `SECTIONS` is their order on the page. To add a part: write its query,
a function in one of these modules, and one line here.
"""

from collections.abc import Callable

from headwater.console.page import Section
from headwater.console.reader import Reader
from headwater.console.sections import actions, customers, experiment, marketing, overview, quality, segments

SECTIONS: tuple[Callable[[Reader], Section], ...] = (
    overview.overview,
    segments.segments,
    segments.migration,
    customers.rfm,
    customers.cohorts,
    customers.clv,
    actions.decisions,
    experiment.experiment,
    actions.activation,
    marketing.leads,
    marketing.marketing,
    quality.quality,
    overview.run,
)
