"""A soak of killed runs: what is started, who of it is killed, and what may be left afterwards.

Used by ``benchmarks/soak.py`` for hundreds of kills and by ``tests/test_soak.py`` for a handful.
"""
