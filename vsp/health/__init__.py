"""How well it works: metrics now, rates and work orders later."""
