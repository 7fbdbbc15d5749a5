"""Built-in explainers: every file that registers a component is found by the catalogue."""
