"""What is added to a loss: one file per regulariser."""
