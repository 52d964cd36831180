"""`python -m tumpline` is the command line."""

from tumpline.ui.cli import main

if __name__ == "__main__":
    main()
