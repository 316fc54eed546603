"""What is said of bytes that are no JSON."""

import msgspec
import pytest

from headwater.collect import intake
from headwater.collect.reasons import Reason


@pytest.mark.parametrize(
    ("raw", "found"),
    [(b"{a", "object keys must be strings (byte 1)"), (b"[1,", "input data was truncated")],
)
def test_what_the_parser_found_is_said_once_and_in_the_middle_of_a_sentence(raw: bytes, found: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(raw)
    assert intake.unreadable(caught.value, raw) == Reason("bad_json", found)
