"""The pipeline as an Airflow DAG: one task per stage, each a call of the `headwater` command.

The file imports `airflow.sdk` and the standard library, nothing else, so Airflow and Headwater live in environments of
their own and never share a package. Copy it into the dags folder, or point the dags folder here.

    HEADWATER_PROJECT        folder of the project (default: the worker's working folder)
    HEADWATER_BIN            the command (default: `headwater` on the PATH)
    HEADWATER_DRY_RUN        0 sends; anything else shows what would be sent (default: 1)
    HEADWATER_RETRY_SECONDS  pause before a second and third try (default: 300)
    HEADWATER_ALERT_WEBHOOK  address that gets a JSON message when a task has failed for good (default: none, the log only)

Every task may run twice with the result of once, so a retry, a cleared task and a run by hand are all safe. One run is
active at a time, because a project is held by one command at a time. What a stage says is in its task's log, and in
the project (`headwater status`).
"""

import json
import logging
import os
import subprocess
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

CURED_BY_RETRY = (1, 6)  # a stage that failed, a project that is held; 2 to 5 need a person (docs/commands.md)

log = logging.getLogger("airflow.task")


def headwater(*arguments: str) -> str:
    """Run one command in the project, its output in the task's log; returns the last line that it printed.

    A failure that a second try may cure raises RuntimeError, any other AirflowFailException (no retry).
    A task that is stopped stops its command.
    """
    command = [os.environ.get("HEADWATER_BIN", "headwater"), *arguments]
    folder = os.environ.get("HEADWATER_PROJECT") or "."
    log.info("in %s: %s", folder, " ".join(command))
    last = ""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout or ():
                last = line.rstrip()
                log.info("%s", last)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        kind = RuntimeError if process.returncode in CURED_BY_RETRY or process.returncode < 0 else AirflowFailException
        raise kind(f"`{' '.join(command)}` ended with exit code {process.returncode}; its last lines above say why")
    return last


def alert(context) -> None:
    """Called once for a task that has failed for good: a line in the log and, where an address is set, a JSON message.

    Never raises: an alert that cannot be delivered is a line in the log.
    """
    instance = context["task_instance"]
    text = f"{instance.dag_id}: {instance.task_id} failed in run {instance.run_id} (try {instance.try_number})"
    log.error("ALERT %s: %s", text, context.get("exception"))
    address = os.environ.get("HEADWATER_ALERT_WEBHOOK")
    if not address:
        return
    message = {"text": text, "dag": instance.dag_id, "task": instance.task_id, "run": instance.run_id}
    try:
        request = Request(address, json.dumps(message).encode(), {"Content-Type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=10):  # noqa: S310
            log.info("alert delivered")
    except OSError as error:
        log.warning("the alert could not be delivered: %s", error)


@dag(
    dag_id="customer_activation_pipeline",
    description="From a shop's files to guardrailed actions, once a day",
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=float(os.environ.get("HEADWATER_RETRY_SECONDS", "300"))),
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": alert,
    },
    tags=["headwater"],
    doc_md=__doc__,
)
def customer_activation_pipeline() -> None:
    """The order of a run. It stops at the first stage that fails: nothing is decided or sent on models that broke a test."""

    @task
    def seed() -> None:
        """Files into raw tables."""
        headwater("seed")

    @task
    def build_upstream() -> None:
        """The models that segments are made from, with their tests."""
        headwater("build", "--part", "upstream")

    @task
    def monitor_segments() -> None:
        """Drift of the features and of the segments, against the model in use."""
        headwater("segment", "monitor")

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_retraining_due() -> bool:
        """Whether the model in use is older than the settings allow (a week), or there is none."""
        return bool(json.loads(headwater("segment", "due", "--json"))["details"]["due"])

    @task
    def train_segments() -> None:
        """A new version of the segment model; it replaces the one in use only through the promotion gate."""
        headwater("segment", "train")

    @task(trigger_rule="none_failed")
    def assign_segments() -> None:
        """Everybody's segment, by the model in use."""
        headwater("segment", "assign")

    @task
    def build_downstream() -> None:
        """The models that follow from segments, with their tests."""
        headwater("build", "--part", "downstream")

    @task
    def test() -> None:
        """Every data-quality test once more on the finished tables, before anything is decided on them."""
        headwater("test")

    @task
    def outcomes() -> None:
        """What became of earlier decisions; a learned policy that does harm is taken back here."""
        headwater("outcomes", "attribute")

    @task
    def decide() -> None:
        """One guardrailed decision per customer, into the log."""
        headwater("decide")

    @task
    def plan() -> None:
        """What would change at each destination."""
        headwater("plan")

    @task
    def activate() -> None:
        """Delivery, or the dry run that is the default."""
        headwater("activate", "--dry-run" if os.environ.get("HEADWATER_DRY_RUN", "1") != "0" else "--no-dry-run")

    @task
    def export() -> None:
        """Files for BI tools and the report."""
        headwater("export")

    assigned = assign_segments()
    seed() >> build_upstream() >> monitor_segments() >> is_retraining_due() >> train_segments() >> assigned
    assigned >> build_downstream() >> test() >> outcomes() >> decide() >> plan() >> activate() >> export()


customer_activation_pipeline()
