"""Frozen values that cross a stage border. Nothing here does anything; nothing here knows a library."""
