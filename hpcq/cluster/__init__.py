"""Launchers, Slurm, sweeps and scaling runs."""
