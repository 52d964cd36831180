"""One agent that carries bundles, IP packets and radio frames over whatever path there is."""

__version__ = "0.1.0"
