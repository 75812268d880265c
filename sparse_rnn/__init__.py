"""Reference framework for research on sparse recurrent networks."""

__version__ = "0.1.0"
