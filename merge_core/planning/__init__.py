"""How a recipe becomes a plan: inputs opened and aligned, rules resolved, every tensor told what happens to it."""
