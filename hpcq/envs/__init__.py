"""Environments.

resolve          from a job's [environment] section to an environment
gymnasium_env    environments that Python steps: Gymnasium's Envs and VectorEnvs
protocol         environments that are compiled into hpcq's kernels
validate         checks a user's compiled environment against plain Python
loading          imports the user's code by name
tabular          environments given as transition tables; Gymnasium's toy-text problems
registry         the environments that hpcq brings, by id; bundled/ holds one file per family
"""
