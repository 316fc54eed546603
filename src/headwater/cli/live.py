"""Commands of the live engine."""
