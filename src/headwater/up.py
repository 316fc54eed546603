"""The processes of `headwater up`."""
