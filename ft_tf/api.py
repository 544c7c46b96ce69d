"""One call from a teacher and images in memory to a trained student."""

import contextlib
import functools
import inspect
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import (
  catalogue,
  compression,
  errors,
  given_models,
  python_arguments,
  python_terms,
  recipe_fit,
  recipe_flags,
  recipes,
  results,
  run_dir,
  standard_streams,
  teachers,
)
from ft_tf.data import array_source, datasets, example_sets
from ft_tf.export import device_limits
from ft_tf.export import student as export_student
from ft_tf.models import keras_settings, model_files
from ft_tf.training import loop, strategy, tf_config

# Keras draws random numbers from one generator for all threads.
_one_at_a_time = threading.RLock()


def distill(
  teacher: keras.Model | str,
  student: keras.Model | str,
  *,
  train: tuple[Any, Any] | tf.data.Dataset,
  test: tuple[Any, Any] | tf.data.Dataset | None = None,
  validation_data: tuple[Any, Any] | tf.data.Dataset | None = None,
  workdir: str | None = None,
  label_names: Sequence[str] | None = None,
  seeds: int = 1,
  baseline: bool = False,
  linear_head: bool = False,
  max_bytes: float | str | None = None,
  max_latency_ms: float | str | None = None,
  max_ram: float | str | None = None,
  formats: Sequence[str] = (),
  max_drop: float = 1.0,
  recipe: str = catalogue.DEFAULT,
  **numbers: Any,
) -> results.Result:
  """Trains a student by factor transfer, exports it and measures it.

  The output directory is that of `ft-tf compress`: `result.json`,
  `report.html`, `export/` with the TFLite files. The same call again continues
  the run, or returns its result. A model in memory is the same if its weights
  are, and of a student also the settings of its layers. Calls in several
  threads wait for each other.

  Args:
    teacher: A trained classifier of raw images, 0..255, or its `.keras` file;
      or the name of a network to train.
    student: A network name as in `zoo.NAMES`, an untrained model, or its
      `.keras` file.
    train: Training images `[N, H, W, C]` uint8 and labels `[N]`, integers from
      0; or a finite `tf.data.Dataset` of such pairs or of dicts with `image`
      and `label` (as TFDS has them), batched or not. Images may also be grey
      `[N, H, W]`, or floats in 0..255 or 0..1; labels `[N, 1]`, one-hot, or
      names from `label_names`. Images are converted between grey and colour if
      the teacher needs it.
    test: Test images and labels, used once, at the end. None: the validation
      data are used. They do not influence the returned student; only
      `best.keras`, the student after its best epoch, is chosen by them, so that
      `best_accuracy` is too high then.
    validation_data: Images and labels to validate on after each epoch. None:
      `validation_examples` of the training images.
    workdir: Output directory. None: a new temporary directory, which is kept;
      the result has its path.
    label_names: The classes in the order of the labels; None: their numbers.
    seeds: Number of seeds to train students for, starting at `seed`.
    baseline: Also train the same students without a teacher.
    linear_head: Also train the last layer of the same students alone, on the
      features of their pretrained weights.
    max_bytes: Maximum size of the student's int8 file, or of another as in
      `'fp32:500000'`. With limits the largest student of the family of
      `student` that meets them is trained.
    max_latency_ms: Maximum median latency of such a file, for one image in one
      thread on this machine.
    max_ram: Maximum size of its tensor arena for one image, in bytes.
    formats: Further files to export, of `dynamic`, `int8_io`, `mixed`,
      `int16x8`, `onnx` and `flexible`.
    max_drop: How many percentage points less accurate than the Keras student
      a file may be on the test images.
    recipe: Name of the recipe whose numbers apply where none is given.
    **numbers: Numbers of the recipe by their flags, such as
      `student_epochs=30`. By default images are padded by an eighth of their
      height and cropped, and the student normalises with the statistics of the
      training images.

  Returns:
    The student of the last epoch, its figures, and where the files are.

  Raises:
    UsageError: something does not fit; nothing has been trained.
    TrainingError: a loss is not finite, or a file loses more accuracy than
      `max_drop`.
  """
  with (
    _one_at_a_time,
    standard_streams.present(),
    python_terms.in_messages(),
    _folder(workdir) as run,
  ):
    _check_surroundings()
    _check_arguments(numbers)
    python_arguments.check_choice('recipe', recipe, catalogue.RECIPES)
    python_arguments.check_count('seeds', seeds, recipes.MOST_SEEDS)
    python_arguments.check_switch('baseline', baseline)
    python_arguments.check_switch('linear_head', linear_head)
    python_arguments.check_number('max_drop', max_drop)
    limits = device_limits.Limits(max_bytes, max_latency_ms, max_ram)
    export = export_student.Options(
      python_arguments.read_names('formats', formats), float(max_drop)
    )
    if test is None:
      test = validation_data
    if test is None:
      raise errors.UsageError(
        'there is nothing to test on: give test, or validation_data'
      )
    source = array_source.Arrays(
      train, test, validation=validation_data, label_names=label_names
    )
    original = _loaded_teacher(teacher)
    source = _as_teacher_takes(original, source, numbers)
    images = source.read('train').images
    values = {
      **_defaults(source),
      'teacher': given_models.to_file(run, 'teacher', teacher, images),
      'student': given_models.to_file(run, 'student', student, images),
      **numbers,
    }
    which = recipe_flags.override(catalogue.get(recipe), values)
    dataset = datasets.Dataset(
      source,
      validation_split='validation' if source.has_validation else '',
      validation_examples=which.data.validation_examples,
    )
    # A model in memory stays as it is: its file is what is frozen and trained
    # from.
    from_file = None if original is teacher else original
    given = teachers.resolve(which, dataset, from_file)
    which, choice = recipe_fit.within(
      limits if limits != device_limits.Limits() else None, which, dataset, run
    )
    compressed = compression.compress(
      which,
      dataset,
      given=given,
      run=run,
      strategy=_devices(),
      options=loop.Options(),
      seeds=int(seeds),
      baseline=bool(baseline),
      linear_head=bool(linear_head),
      choice=choice,
      export=export,
    )
    return results.read(run, compressed)


@contextlib.contextmanager
def _folder(workdir: Any) -> Iterator[run_dir.RunDir]:
  """Yields the run folder; what a refused call has written is removed."""
  if tf_config.read() is not None:
    raise errors.UsageError(
      'TF_CONFIG is set, and this call trains on one machine: unset it, or '
      'give the commands of ft-tf on all machines'
    )
  if workdir is not None:
    given = run_dir.RunDir(given_models.to_path('workdir', workdir))
    run_dir.check_writable(given.path)
    missing = _first_missing(given_models.folder_of(given))
    try:
      yield given
    except errors.UsageError:
      if missing and not given.begun():
        shutil.rmtree(missing, ignore_errors=True)
      raise
    return
  run = run_dir.RunDir(tempfile.mkdtemp(prefix='ft_tf-'))
  try:
    yield run
  finally:
    if run.begun():
      print(f'workdir: {run.path}', file=sys.stderr, flush=True)
    else:
      shutil.rmtree(run.path)


def _check_surroundings() -> None:
  """Raises `UsageError` where TensorFlow is set up for something else."""
  keras_settings.check('distill')
  if tf.distribute.has_strategy():
    raise errors.UsageError(
      'distill has a strategy of its own: call it outside of the scope of '
      'another'
    )
  if tf.config.functions_run_eagerly():
    raise errors.UsageError(
      'distill trains and exports compiled functions: call '
      'tf.config.run_functions_eagerly(False) first'
    )


def _first_missing(path: str) -> str | None:
  """Returns the first part of a path that does not exist; None: all do."""
  missing = None
  while not os.path.lexists(path):
    missing, path = path, os.path.dirname(path)
  return missing


def _defaults(source: array_source.Arrays) -> dict[str, Any]:
  """Returns the numbers that images in arrays have of themselves."""
  mean, std = example_sets.statistics(source.read('train'))
  return {
    'dataset': source.name,
    'image_size': 0,
    'resizing': 'stretch',
    'pad': source.image_shape[0] // 8,
    'mean': mean,
    'std': std,
  }


def _check_arguments(numbers: dict[str, Any]) -> None:
  """Raises `UsageError` over what is no number of a recipe, or of files."""
  leaves = recipe_flags.leaves()
  of_files = {leaf.flag for leaf in leaves if leaf.field.metadata['stored']}
  strange = sorted(of_files & numbers.keys())
  if strange:
    raise errors.UsageError(
      f'images in arrays come as they are: leave out {", ".join(strange)}'
    )
  flags = {leaf.flag for leaf in leaves} - of_files
  known = sorted(flags | inspect.signature(distill).parameters.keys())
  for name in numbers.keys() - flags:
    hint = errors.did_you_mean(name, known)
    raise errors.UsageError(
      f'distill() has no argument {name!r}'
      + (hint or ': give numbers of a recipe, such as student_epochs')
    )


def _loaded_teacher(teacher: Any) -> keras.Model | None:
  """Returns the trained teacher that is given; None: a network to train."""
  if isinstance(teacher, (str, os.PathLike)):
    path = given_models.to_path('teacher', teacher)
    if not model_files.is_teacher_file(path):
      return None
    teacher = model_files.load(path)
  given_models.check('teacher', teacher)
  return teacher


def _as_teacher_takes(
  teacher: keras.Model | None,
  source: array_source.Arrays,
  numbers: dict[str, Any],
) -> array_source.Arrays:
  """Returns the images with the channels that a trained teacher takes.

  Raises:
    UsageError: it takes images of another size, or it is not certain what it
      takes where images are in 0..1.
  """
  if teacher is None:
    return source
  *size, channels = teacher.input_shape[1:]
  has = source.image_shape
  if any(w not in (None, h) for w, h in zip(size, has[:2], strict=True)):
    raise errors.UsageError(
      f'the teacher takes images of {size[0]}x{size[1]}, those of train and '
      f'test are {has[0]}x{has[1]}: resize them'
    )
  if source.unit and 'preprocessing' not in numbers and not _of_bytes(teacher):
    raise errors.UsageError(
      "images are given in 0 to 1: give preprocessing='0..1' if the teacher "
      "takes them so, or preprocessing='none' if it takes 0 to 255"
    )
  if {channels, has[-1]} != {1, 3}:
    return source
  print(
    f'images: {has[-1]} channels, converted to the {channels} that the teacher '
    'takes',
    file=sys.stderr,
    flush=True,
  )
  return source.with_channels(channels)


def _of_bytes(model: keras.Model) -> bool:
  """Tells whether it is certain that a model takes images of 0..255."""
  (image,) = model.inputs
  return np.dtype(keras.backend.standardize_dtype(image.dtype)).kind in 'iu'


@functools.cache
def _devices():
  """Returns the devices; strategies of one process must not be made twice."""
  return strategy.make()
