"""`headwater up` whose log does not answer when it starts: it says so and tries again, and whatever else it does goes on."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from headwater.up.said import Said
from headwater.up.supervisor import Up

pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")


@pytest.mark.kafka
def test_the_engine_waits_for_a_log_that_does_not_answer(retail_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(retail_home, folder)
    settings = yaml.safe_load((folder / "headwater.yml").read_text())
    settings["log"] = {"kind": "kafka", "kafka": {"bootstrap_servers": "127.0.0.1:1", "timeout_seconds": 0.2}}
    (folder / "headwater.yml").write_text(yaml.safe_dump(settings))
    said: list[Said] = []
    commands: Any = None  # nobody types one
    up = Up(folder, commands, said.append)
    up._begin()
    assert [(one.stage, one.status) for one in said] == [("engine", "running"), ("engine", "failed")]
    assert said[-1].sentence.startswith("it is tried again in 2 s: cannot look at the topics of Kafka at 127.0.0.1:1")
    assert up.report()[0].state == "stopped"
    with up.stack() as stack:  # as a command between two batches has it
        assert stack.warehouse.value("select count(*) from headwater.clock") == 1
    up._project.warehouse.close()
