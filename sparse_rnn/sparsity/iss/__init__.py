"""ISS: intrinsic sparse structures (Wen et al. 2018)."""
