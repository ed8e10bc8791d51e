"""`python -m trainers` lists the commands, and `python -m trainers train mnist` is `wmr train mnist`."""

from trainers.command import main

if __name__ == "__main__":
    main()
