"""Who was told: plan, outbox, delivery."""
