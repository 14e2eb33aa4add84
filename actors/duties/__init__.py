"""What a worker does besides executing stages. Each duty has a file and a ``run_once`` that the pulse calls.

The pulse is the worker's maintenance loop (``actors/pulse.py``).
"""
