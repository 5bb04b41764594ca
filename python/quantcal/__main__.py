"""`python -m quantcal` is the `quantcal` command."""

from quantcal.cli import main

if __name__ == "__main__":
    main()
