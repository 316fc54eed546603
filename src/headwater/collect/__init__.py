"""What comes in: which of a shop's files hold what, and how their columns become Headwater's entities."""
