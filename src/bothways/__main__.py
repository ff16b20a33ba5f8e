"""Run the command line as ``python -m bothways``."""

from bothways.cli.app import main

if __name__ == "__main__":
    main()
