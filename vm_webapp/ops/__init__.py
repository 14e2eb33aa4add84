"""What operators run: readiness, doctor, smoke test, queue control, bulk commands and retention."""
