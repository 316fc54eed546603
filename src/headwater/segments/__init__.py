"""Who is in what: memberships by SQL rules and by models."""
