"""Padded episodes in HDF5, as PyMARL's kin keep them."""
