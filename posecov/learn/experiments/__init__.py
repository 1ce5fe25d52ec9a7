"""The papers' experiments: one module each with the logic; the commands are under tools/experiments/."""
