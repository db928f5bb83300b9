"""Replication of *Asymmetric Advantage Modulation Calibrates Entropy Dynamics in RLVR* (AsymGRPO)."""

__version__ = "0.1.0"
