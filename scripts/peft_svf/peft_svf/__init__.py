"""svfleet's expert vectors in transformers and PEFT models: see load_expert."""
from .apply import Handle, load_expert
from .expert import Expert, ExpertError, read_expert
from .store import Factor, read_factor

__all__ = ["Expert", "ExpertError", "Factor", "Handle", "load_expert", "read_expert", "read_factor"]
