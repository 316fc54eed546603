"""The durable, append-only event log: what was answered with 200 is in it, whatever happens next.

    base      the contract        sqlite    the default: one file, many readers        memory    for tests
"""
