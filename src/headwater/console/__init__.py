"""What people look at: every read of it (`queries`), the report, the exports for BI."""
