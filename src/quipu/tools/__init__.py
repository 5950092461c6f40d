"""Functions that a model may call: what they are, how a call is written, read while it is written, and kept valid."""
