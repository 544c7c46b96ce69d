"""Prepares a TFDS data set, or looks at a folder of images.

  ft-tf prepare-data --dataset=cifar10 --data_dir=DATA
  ft-tf prepare-data --dataset=folder:IMAGES --data_dir=DATA

ImageNet's archives are not downloaded: put ILSVRC2012_img_train.tar and
ILSVRC2012_img_val.tar into DATA/downloads/manual before. A folder of images
stays as it is: its images are decoded once, bad ones are named, and what they
are is noted in a small index in DATA. Other commands do the same when they
first see the folder. The result has the folder, and the number of images in
each split.
"""

from absl import flags

from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.data import builders


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define(
    values,
    flag_sets.REQUIRED,
    'dataset',
    None,
    'TFDS name of a data set, digits, or folder:PATH',
  )
  flag_sets.define_data_dir(values)
  flag_sets.define(
    values,
    flag_sets.DATA,
    'file_format',
    'tfrecord',
    'TFDS file format of a data set that is not yet prepared',
    choices=['tfrecord', 'array_record'],
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  prepared = builders.prepare(
    settings.required(values, 'dataset'),
    data_dir=values.data_dir,
    file_format=values.file_format,
  )
  splits = ', '.join(f'{k} {v:,}' for k, v in prepared['examples'].items())
  return outcome.Outcome(prepared, f'prepared: {splits} images')
