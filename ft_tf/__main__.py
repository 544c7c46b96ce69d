"""Runs a command: `python -m ft_tf compress --recipe=digits ...`."""

from ft_tf.cli import main

if __name__ == '__main__':
  main.main()
