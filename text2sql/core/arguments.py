"""Types of command-line arguments that several verbs take."""

import argparse


def share(text: str) -> float:
    """Return a share above 0 and below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a share above 0 and below 1")
    return value
