"""`python -m covjax NAME ..`: as `covjax NAME ..`."""

from covjax.commands.__main__ import main

if __name__ == "__main__":
    main()
