"""Collector and engine may be the first to open a log at the same moment: both get it."""

import threading
from pathlib import Path

from headwater.log.file import opened


def test_several_may_make_the_log_at_the_same_moment(tmp_path: Path) -> None:
    refused: list[BaseException] = []
    for number in range(60):
        path, ready = tmp_path / str(number) / "log.sqlite", threading.Barrier(3)

        def make(path: Path = path, ready: threading.Barrier = ready) -> None:
            ready.wait()
            try:
                opened(path, 5.0, None).close()
            except Exception as error:
                refused.append(error)

        makers = [threading.Thread(target=make) for _ in range(3)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
    assert refused == []
