"""One configurable adversarial method, and its presets, which are configurations."""
