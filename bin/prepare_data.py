#!/usr/bin/env python3
"""Prepares a TFDS data set once: downloads it, writes its files.

  bin/prepare_data.py --dataset=cifar10 --data_dir=DATA

--file_format=array_record makes files that --resizing=crop can read in any
order. ImageNet's archives are not downloaded: lay ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar into DATA/downloads/manual before. The last line of
output is JSON: the folder, and the number of images in each split.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf.data import builders

flags.DEFINE_string(
  'dataset', None, 'TFDS name of a data set, or digits (required)'
)
program.define_data_dir()
flags.DEFINE_enum(
  'file_format',
  'tfrecord',
  builders.FILE_FORMATS,
  'TFDS file format; array_record supports random access (default: tfrecord)',
)


def main():
  return builders.prepare(
    program.required('dataset'),
    data_dir=flags.FLAGS.data_dir,
    file_format=flags.FLAGS.file_format,
  )


if __name__ == '__main__':
  program.run(main)
