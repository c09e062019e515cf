"""Where LungForge runs: several hosts on one machine, under Slurm, on Kubernetes."""
