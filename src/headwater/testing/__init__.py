"""Shipped to users: a synthetic shop, conformance kits, fakes. Nothing of the product imports it but `headwater demo`."""
