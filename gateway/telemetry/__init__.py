"""What operators see: metrics, log lines, readiness. Listens; never asks."""
