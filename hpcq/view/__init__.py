"""Read checkpoints and runs: tables, policies, plots, reports."""
