"""What was measured, shown: the HTML leaderboard and leaderboard.md. Reads stored rows only; never loads torch."""
