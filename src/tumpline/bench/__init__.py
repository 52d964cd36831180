"""Figures, each beside what the plainest program reaches on the same machine in the same run.

One module here = one bench; it ends with SPEC. `limits/` holds the plainest programs, `framework/` what benches share.
"""
