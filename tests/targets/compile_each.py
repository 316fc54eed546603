"""Compile each model by itself, offline: `python compile_each.py TARGET` in the project's folder.

`dbt compile` stops at the first model that raises; here every model has its answer. Prints JSON, by name of the model:
{"materialized": …, "sql": …} or {"materialized": …, "said": the error}. Runs in the environment of the target's adapter.
"""

import json
import sys

from dbt.cli.main import dbtRunner

target = sys.argv[1]
quiet = ["--quiet", "--no-print", "--log-level", "none", "--no-send-anonymous-usage-stats", "--no-version-check"]
place = ["--target", target, "--target-path", f"target_{target}", "--project-dir", ".", "--profiles-dir", "."]
parsed = dbtRunner().invoke([*quiet, "parse", *place])
if not parsed.success:
    sys.exit(str(parsed.exception))
runner = dbtRunner(manifest=parsed.result)
answers = {}
for node in [node for node in parsed.result.nodes.values() if node.resource_type == "model"]:
    offline = ["--no-introspect", "--no-populate-cache"]
    done = runner.invoke([*quiet, "compile", *offline, "--select", node.name, *place])
    answer = {"sql": done.result.results[0].node.compiled_code} if done.success else {"said": str(done.exception)}
    answers[node.name] = {"materialized": node.config.materialized, **answer}
print(json.dumps(answers))
