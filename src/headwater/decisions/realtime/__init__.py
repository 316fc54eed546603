"""Decisions on demand: `POST /decide`, answered in the engine's process.

    present      every customer as decisions see them, in memory; follows what the engine commits
    remembered   the ledgers with a memory: what is asked for every decision is not searched in a large table each time
    desk         the thread that decides: whatever has gathered is decided and written together, then answered
    http         the answers as an ASGI application
    serve        all of it in threads; `pause` while the file is given away

A request is judged by the rules, the policy and the seed of `headwater decide`, one after the other in `Decider`: asked without
a key, at the same moment of the data, both make the same decision under the same key, whichever comes first. What is answered
has been committed to `headwater.decision_log` before. Whoever asks carries the decision out; activation never sends it
(its `run_id` is `log.ON_DEMAND`).
"""
