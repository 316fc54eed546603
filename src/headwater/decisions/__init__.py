"""What to do for each customer, inside guardrails.

    table.py       the list of actions and the default table; `next_best_action`, a plan for a segment
    inputs.py      what a caller may say
    customer.py    one customer as decisions see them; channels.py: the ways to reach them
    guardrails/    one file per rule: `check()` for one customer, `sql()` for a batch, its docstring is what the console shows
    policy.py      the seam of what chooses among the actions that are left
    settle.py      from what the rules left to probabilities and trace; both paths use it
    judged.py      what a decision was judged by, as its key: it stands as long as that is the same
    decide.py      `Decider`: one customer at a time, with full trace
    batch.py       `decide_batch`: a relation of customers, in SQL, the same answer row for row; situations.py: its rules
    budget.py      reservations
    ledgers.py     contacts, consent, budgets, switches, in memory or in the warehouse
    log.py         the decision log and its traces
    send.py        the re-check at the moment of sending, and the release
    exposure.py    who gets less
    explain.py     one decision taken apart, step by step
    outcomes.py    what customers did: from files, orders, events; attribution.py: which decision it belongs to, and closed windows
    logged.py      from the log and the outcomes back to what can be judged
    realtime/      decisions on demand: `POST /decide` in the engine's process
    llm/           a language model as an adviser: choices, risks, texts; never an action of its own
    messages.py    templates and how a text becomes a message; messages_check.py: what a text may not say; messages_texts.py: texts
                   on record, approved, given to decisions
    learned.py     policies that learn (vowpal_wabbit.py: one more); champion.py: versions, the gate, the way back; watch.py: when
    experiment.py  treatment, business as usual, holdout; sequential.py: intervals for whoever looks often
    evaluate.py    what a policy would have brought; health.py: checks that a log must pass; power.py: what can be seen at all

Which record comes in: rows of `int_decision_candidates`. Which goes out: rows of `headwater.decision_log`. Running it twice
with the same customers, as-of and configuration gives the same keys and adds nothing (but for a `none` that the hour or an
earlier contact had caused and no longer causes).

This module imports nothing heavy: `from headwater.decisions import next_best_action` takes milliseconds.
"""

from headwater.decisions.table import Action, Table, next_best_action

__all__ = ["Action", "Table", "next_best_action"]
