"""`python -m moebench`: the command, for when it is not on the path."""

from moebench.cli.commands import main

if __name__ == "__main__":
    main(prog_name="moebench")
