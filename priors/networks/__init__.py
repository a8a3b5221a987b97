"""Network definitions: the only place with layers. Each is built alike from the same seed."""
