"""Finds the events of a batch whose JSON cannot be read as a whole, so that one poisoned event does not take the rest along."""

import re

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\],:]', re.DOTALL)


def split(body: bytes) -> tuple[bytes, list[bytes]] | None:
    """The batch with an empty list in the place of its events, and the bytes of each event; None when no end is found.

    Only brackets and texts are looked at; whether a piece is JSON is for others to say.
    """
    depth = 0
    at_key: bytes | None = None
    key_depth = 0
    start = piece = -1
    pieces: list[bytes] = []
    closers: list[bytes] = []
    for found in _TOKEN.finditer(body):
        token = found.group()
        if token in (b"{", b"["):
            if start < 0 and depth == 1 and token == b"[" and at_key == b'"batch"':
                start = found.end()
                piece = start
                key_depth = depth + 1
            depth += 1
            closers.append(b"}" if token == b"{" else b"]")
            at_key = None
        elif token in (b"}", b"]"):
            if not closers or closers.pop() != token:
                return None
            depth -= 1
            if start >= 0 and depth == key_depth - 1:
                last = body[piece : found.start()].strip()
                if last or pieces:
                    pieces.append(last)
                return body[:start] + body[found.start() :], pieces
        elif token == b",":
            if start >= 0 and depth == key_depth:
                pieces.append(body[piece : found.start()].strip())
                piece = found.end()
            at_key = None
        elif token != b":" and depth == 1:
            at_key = token
    return None
