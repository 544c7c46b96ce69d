#!/usr/bin/env python3
"""Runs `ft-tf train-teacher` from a checkout; --help prints its manual."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from ft_tf.cli import main

if __name__ == '__main__':
  main.main('train-teacher')
