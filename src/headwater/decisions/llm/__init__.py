"""A language model as an adviser: it may choose among what is allowed, estimate a risk, and write a text. It never acts.

    ask       the one way to a model: budgets, limits, cache, and a row in `headwater.llm_calls` for each call
    endpoint  the model's interface (OpenAI's, or Anthropic's), through pydantic-ai; the only module that imports it
    choose    L3: which of the feasible actions, per segment and bucket
    risk      churn risk per segment and bucket, of no use until it is calibrated against outcomes
    write     subject and body per template, segment and bucket

What a model is told are names of segments, buckets, actions and templates, and nothing else: no id, no name, no address, no text
of a customer's. It is asked per segment and bucket before a run, never per customer and never per event, so a request by a
customer waits for no model. What it answers is one of a closed list, a number between 0 and 1, or a text that is checked; whatever
else it says is an invalid answer. Without a key, without money, after a time-out, on nonsense: the rules and the templates
answer, and the reason is in the row.
"""
