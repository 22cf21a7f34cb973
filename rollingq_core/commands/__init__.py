"""The commands of the command line, a file each: ``add`` says what it takes, ``run`` does it."""
