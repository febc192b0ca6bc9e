"""
Bad input by machine: what comes from outside, whatever it is, ends in a value or in an error that is meant for it.

Each module is one target: what it reads, and a function `check` that takes any bytes and fails only where a promise is
broken. Targets are used in three ways: by hypothesis and with inputs that once broke them in `make test`, and by
coverage-guided fuzzing in `make fuzz`.
"""
