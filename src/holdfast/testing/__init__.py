"""The proof: work on a store that is ended, failed and cut off at every step, and what must hold.

`holdfast certify` runs it on the user's own disk; the tests run the same sweeps and more.
"""
