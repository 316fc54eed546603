"""Headwater: a composable customer data platform in one package."""

__version__ = "0.1.0"
