"""What to do for each customer, inside guardrails."""
