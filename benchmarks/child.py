"""One row or one input in a process of its own: `python -m benchmarks.child row|input NAME WORK`; prints JSON for a row."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.registry import BENCHES, INPUTS, load


def main() -> None:
    kind, name, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if kind == "input":
        load(INPUTS[name])(work / name)
        return
    found = load(BENCHES[name].target)(work)
    print("\n" + json.dumps({**asdict(found), "ratio": found.ratio}))


if __name__ == "__main__":
    main()
