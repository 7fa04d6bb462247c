"""Measures Ringfort beside other servers; `scripts/bench` is its command. Needs Python 3.9 and no more."""


class BenchError(Exception):
    """Something is not as it has to be; the text says what was expected and what was found."""
