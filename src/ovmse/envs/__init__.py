"""Environments: made by name, checked in one call, and the adapters, one file each."""

from ovmse.envs.check import check
from ovmse.envs.naming import load, make, names
from ovmse.envs.protocol import AnyEnvironment, Environment, HostEnvironment, is_host

__all__ = ["AnyEnvironment", "Environment", "HostEnvironment", "check", "is_host", "load", "make", "names"]
