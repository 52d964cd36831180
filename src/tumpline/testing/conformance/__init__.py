"""Suites that every implementation of a seam passes: subclass one in a test module and say how to open yours."""
