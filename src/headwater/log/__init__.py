"""The durable, append-only event log: what was answered with 200 is in it, whatever happens next.

base      the contract
sqlite    the default: one file, many readers (file: how it is opened and what its errors mean; packed: its rows)
memory    for tests
group     durability for coroutines: one commit for all requests that have gathered
"""
