"""One benchmark and leaderboard for image classifiers that must be accurate, robust and explainable at once."""

__version__ = "0.1.0"
