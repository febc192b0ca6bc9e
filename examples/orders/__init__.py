"""Orders: charge, reserve and ship, with a payment provider that fails, and with everything undone where that must be."""
