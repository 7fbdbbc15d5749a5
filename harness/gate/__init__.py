"""The regression gate: is a run worse than its published record by more than chance and tolerance? (protocol.md, 6)."""
