"""`python -m efiqa`: the command, for interpreters whose scripts are not on the path."""

from efiqa.cli import main

if __name__ == "__main__":
    main()
