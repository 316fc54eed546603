"""Counts in the sentences that stages say: one or many, with a comma between the thousands."""


def counted(number: int, one: str, many: str = "") -> str:
    """`counted(1, "file")` is `1 file`, `counted(2000, "row")` is `2,000 rows`; `many` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
