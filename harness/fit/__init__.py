"""The training loop: any method, any device, resumable to the bit."""
