"""Agents on a bus: objects exported, nothing else."""
