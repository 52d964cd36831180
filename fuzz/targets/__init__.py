"""One module a decoder or machine; each ends with TARGET."""
